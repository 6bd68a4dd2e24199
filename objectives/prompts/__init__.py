"""Prompts as tokens."""
