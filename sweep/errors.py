"""What can go wrong for a user, each with the exit code that the README lists."""

from __future__ import annotations


class SweepError(Exception):
    """A user's mistake or a fault that ends a command: one line on stderr, and this exit code.

    Every subclass takes its whole message as its only argument, so that it survives pickling.
    """

    exit_code = 1

    def _render_traceback_(self) -> list[str]:
        """What IPython shows of it in a notebook: the message, and not how it came about."""
        return [f"{type(self).__name__}: {self}"]


class UsageError(SweepError, ValueError):
    """A command or a call asks for what cannot be."""

    exit_code = 2


class MissingExtraError(SweepError, ImportError):
    """What was asked for needs a package that is not installed."""

    exit_code = 2


class StudyFileError(SweepError, ValueError):
    """The study file, or what overrides it, says something that cannot be."""

    exit_code = 2


class NothingToConfirmError(SweepError, ValueError):
    """The search has not tuned enough ranks alike to compare them."""

    exit_code = 2


class StudyMismatchError(SweepError, ValueError):
    """The study in storage was run with other settings."""

    exit_code = 3


class StorageError(SweepError, OSError):
    """The storage cannot be read, written or reached, or is in use."""

    exit_code = 4


class ClusterError(SweepError, ConnectionError):
    """A Ray cluster cannot be reached, or is not one to run on."""

    exit_code = 6


class TrialsFailedError(SweepError, RuntimeError):
    """No trial succeeded, or a fault that every trial would meet stopped the study."""

    exit_code = 5
