"""The search: which point comes next."""
