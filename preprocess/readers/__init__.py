"""Published layouts -> Examples and a report on every question."""
