"""What a user may choose: the study file, the search space, and where each setting comes from."""
