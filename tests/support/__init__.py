"""What several test files share: the command in a process, scripted workers, stored studies, sources."""
