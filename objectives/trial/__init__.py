"""What a worker shares between its trials, and what it says to whoever started it."""
