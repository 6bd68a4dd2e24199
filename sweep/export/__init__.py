"""What `sweep export` writes: an adapter, a script that trains one like it, and a card that says why."""
