"""What `sweep doctor` looks at: the machine, the packages, the storage, a study. One check a line."""
