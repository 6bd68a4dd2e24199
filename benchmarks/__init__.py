"""The project's speed claims: each a ratio, measured side by side in one run."""
