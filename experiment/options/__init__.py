"""What a user may type: flags, ranges, configuration files."""
