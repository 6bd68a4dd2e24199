"""Whether the storage can be written, and lies where SQLite's locks hold."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from sweep.doctor.check import Check, fault, ok, warning
from sweep.storage.address import driver_url, first_line, hide_password, is_postgres, sqlite_path

SHARED = re.compile(r"^(nfs\d?|cifs|smb3|lustre|ceph|gpfs|beegfs|glusterfs|9p|fuse\..*|fuse)$")
"""File systems on which SQLite's write-ahead log is not safe (https://www.sqlite.org/wal.html)."""


REMEDY = "see what else uses it, or name another with --storage"


def storage_checks(url: str) -> Iterator[Check]:
    """Looks at a storage without making one.

    Args:
        url: As `--storage` takes it.
    """
    path = sqlite_path(url)
    if path is not None and str(path) in (":memory:", ""):
        yield fault("storage", f"{url} is gone when a command ends", "name a file: sqlite:///rank-sweep.db")
        return
    if path is None:
        yield _opens(url)
        return
    folder = path.absolute().parent
    kind = file_system(folder)
    if SHARED.match(kind):
        yield fault(
            "storage",
            f"{path} lies on {kind}",
            "SQLite's locks do not hold there: --storage with a local folder or a server",
        )
    elif path.exists():
        yield _opens(url)
    elif not folder.is_dir() or not os.access(folder, os.W_OK):
        yield fault(
            "storage", f"{folder} cannot be written", "run from a folder of your own, or name one with --storage"
        )
    else:
        yield ok("storage", f"{path} is not there yet and can be made, on {kind}")


def file_system(folder: Path) -> str:
    """The kind of file system that a folder lies on, as the system names it."""
    best, kind = "", "an unknown file system"
    try:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return kind
    here = folder.resolve()
    for line in lines:
        mount, _, rest = line.partition(" - ")
        point = mount.split()[4].replace("\\040", " ")
        # The deepest mount counts, and of several on one folder the last, which hides the others.
        if here.is_relative_to(point) and len(point) >= len(best):
            best, kind = point, rest.split()[0]
    return kind


def _opens(url: str) -> Check:
    """Looks into a storage that is there, without writing to it."""
    from sqlalchemy import create_engine, inspect, text
    from sqlalchemy.exc import SQLAlchemyError

    from sweep.storage.server import reading_options

    path = sqlite_path(url)
    try:
        # Opened as it stands: Optuna's own way would make its tables where there are none.
        if path is None:
            engine = create_engine(driver_url(url), **(reading_options(url) if is_postgres(url) else {}))
        else:
            engine = create_engine(f"sqlite:///file:{path.absolute()}?mode=ro&uri=true")
        with engine.connect() as connection:
            if "studies" not in inspect(connection).get_table_names():
                return ok("storage", f"{hide_password(url)} opens; `sweep run` would make its tables there")
            studies = connection.execute(text("SELECT count(*) FROM studies")).scalar_one()
            journal = "" if path is None else connection.execute(text("PRAGMA journal_mode")).scalar_one()
    except (SQLAlchemyError, ImportError, OSError, ValueError) as error:
        return fault("storage", f"cannot open {hide_password(url)}: {first_line(error, url)}", REMEDY)
    told = f"{hide_password(url)} opens, {studies} {'study' if studies == 1 else 'studies'}"
    if path is not None and journal != "wal":
        return warning("storage", f"{told}, journal mode {journal}", "`sweep run` sets WAL, so that others can read")
    return ok("storage", told)
