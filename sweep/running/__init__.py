"""A study under way: the supervisor, its worker process, and what people see meanwhile."""
