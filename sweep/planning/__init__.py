"""A study before anything loads: what it searches, holds in memory, spends, and can show."""
