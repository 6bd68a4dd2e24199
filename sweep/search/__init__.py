"""The search: which point comes next, and when a trial ends early."""
