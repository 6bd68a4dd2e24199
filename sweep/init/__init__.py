"""From a notebook or script that trains with TRL to a study of its own. Sources are read, never run."""
