"""Terminal and progress bars."""
