"""What a run starts from: model, tokenizer, data, features."""
