"""The protocol over seeds, one seed, and what it leaves."""
