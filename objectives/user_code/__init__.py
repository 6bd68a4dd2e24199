"""The user's own code: imported because a study names it, and hashed."""
