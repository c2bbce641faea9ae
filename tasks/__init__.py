"""One file per task; a task is a value."""
