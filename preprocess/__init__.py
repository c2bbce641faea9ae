"""Raw files to feature sets and batches: numpy, tokenizers and the standard library; knows no task."""
