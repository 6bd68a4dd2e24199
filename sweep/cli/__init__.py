"""The `sweep` command. Each subcommand has a file of its own, and loads what it needs when it is called."""

from __future__ import annotations

from sweep.cli.app import main

__all__ = ["main"]
