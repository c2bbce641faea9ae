"""Fine-tuned models in forms that need none of this toolkit, and answers of these."""
