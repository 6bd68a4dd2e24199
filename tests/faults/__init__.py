"""What a study survives: each fault is done to a real one, and what comes of it is compared with an undisturbed one."""
