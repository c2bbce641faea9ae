"""Questions typed in a terminal, one after the other, and their answers shown there."""
