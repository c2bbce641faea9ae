"""A grid of runs: its cells, who trains them, and how far they are. The run directories are the only truth."""
