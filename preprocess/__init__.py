"""Raw files to feature sets and batches: numpy and the standard library; knows no task."""
