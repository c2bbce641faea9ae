"""Text -> pieces and their places in the original text."""
