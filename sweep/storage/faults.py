"""Whether what went wrong is the storage's doing."""

from __future__ import annotations

from sweep.errors import StorageError


def is_storage_fault(error: BaseException) -> bool:
    """Whether an error is of the storage: ours, Optuna's or the database's."""
    return isinstance(error, StorageError) or type(error).__module__.startswith(("sqlalchemy.", "optuna.", "sqlite3"))
