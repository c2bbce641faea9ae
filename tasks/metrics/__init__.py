"""Pure functions, equal to the official scripts."""
