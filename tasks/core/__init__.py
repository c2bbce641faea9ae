"""What a task is made of and how it is found."""
