"""What every room may use: errors, files, JSON, hashing."""
