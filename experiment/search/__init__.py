"""A search: trials are ordinary runs, and what came of them is noted in a study that several workers share."""
