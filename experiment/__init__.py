"""Runs, seeds, records and tables around the tasks and the two backends."""
