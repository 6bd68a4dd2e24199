"""Choices: one TOML file per study, and report notebooks."""
