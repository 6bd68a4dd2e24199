"""Choices: one TOML file a study, and report notebooks."""
