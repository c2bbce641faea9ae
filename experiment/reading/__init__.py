"""A fine-tuned model in memory that is asked in words, and what it says."""
