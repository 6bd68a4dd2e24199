"""What a model, its adapters and a worker hold in memory, before anything loads."""
