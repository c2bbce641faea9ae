"""One file per family: all that differs between them, as far as it needs no framework."""
