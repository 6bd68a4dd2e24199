"""How a PostgreSQL server is reached: soon given up where it does not answer, and missed soon where it goes away."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs

from sweep.errors import MissingExtraError, StorageError
from sweep.storage.address import driver_url, hide_password
from sweep.storage.advisory_lock import this_process
from sweep.storage.bulk import BulkStorage
from sweep.storage.patience import PatientStorage

CONNECTING = {
    "connect_timeout": 2,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
"""libpq's parameters; a URL may name others. Seconds, and milliseconds in the last."""


def reading_options(url: str) -> dict[str, Any]:
    """What the engine of readers is made with: dashboards keep one for days."""
    return {"connect_args": _parameters(url), "pool_pre_ping": True}


def writing_storage(storage: BulkStorage) -> PatientStorage:
    """A second way into a storage that is open, for one writer: through one connection, whatever it asks."""
    options = {"connect_args": _parameters(storage.url), "pool_size": 1, "max_overflow": 0}
    # Both checks were made when the storage was opened, and here would want a second connection.
    own = PatientStorage(storage.url, engine_kwargs=options, skip_compatibility_check=True, skip_table_creation=True)
    own.curves, own.every_step, own.patience_s = storage.curves, storage.every_step, storage.patience_s
    return own


def check_driver(url: str) -> None:
    """Whether the driver is installed.

    Raises:
        MissingExtraError: where it is not.
        StorageError: where the URL is no URL.
    """
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        make_url(driver_url(url)).get_dialect().import_dbapi()
    except ImportError as error:
        raise MissingExtraError(
            f"{hide_password(url)} needs psycopg, which is not installed: pip install 'rank-sweep[postgres]'"
        ) from error
    except (ArgumentError, ValueError) as error:
        raise StorageError(
            f"cannot open {hide_password(url)}: no URL; allowed: postgresql://USER@HOST:5432/DATABASE"
        ) from error


def _parameters(url: str) -> dict[str, Any]:
    given = parse_qs(url.partition("?")[2])
    parameters = CONNECTING | {"application_name": this_process()}
    return {name: value for name, value in parameters.items() if name not in given}
