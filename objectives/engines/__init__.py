"""Where completions come from: engines that sample from a base model and an adapter."""
