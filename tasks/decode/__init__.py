"""Logits to predictions."""
