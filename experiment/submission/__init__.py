"""What the organisers of leaderboards read: one archive each, tried before it is handed over."""
