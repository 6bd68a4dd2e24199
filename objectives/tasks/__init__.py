"""Tasks: prompts with references, and the reward functions that score completions."""
