"""What must hold before a study runs: what it names is there, and this machine can run it."""
