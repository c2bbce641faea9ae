"""Text and the places in it: offsets, conversions with the way back."""
