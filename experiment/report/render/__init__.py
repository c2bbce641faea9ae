"""The forms of a leaderboard. Each escapes what users have named."""
