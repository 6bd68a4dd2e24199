"""Whether the storage can be written, and lies where SQLite's locks hold."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from sweep.doctor.check import Check, fault, ok
from sweep.errors import StorageError
from sweep.storage import hide_password, open_storage, sqlite_path

SHARED = re.compile(r"^(nfs\d?|cifs|smb3|lustre|ceph|gpfs|beegfs|glusterfs|9p|fuse\..*|fuse)$")
"""File systems on which SQLite's write-ahead log is not safe (https://www.sqlite.org/wal.html)."""


def storage_checks(url: str) -> Iterator[Check]:
    """Looks at a storage without making one.

    Args:
        url: As `--storage` takes it.
    """
    path = sqlite_path(url)
    if path is None:
        yield _opens(url)
        return
    folder = path.absolute().parent
    kind = file_system(folder)
    if SHARED.match(kind):
        yield fault(
            "storage", f"{path} lies on {kind}", "SQLite's locks do not hold there: name a local folder with --storage"
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
        if here.is_relative_to(point) and len(point) >= len(best):
            best, kind = point, rest.split()[0]
    return kind


def _opens(url: str) -> Check:
    try:
        opened = open_storage(url, create=False)
        studies = len(opened.get_all_studies())
    except StorageError as error:
        return fault("storage", str(error), "see what else uses it, or name another with --storage")
    return ok("storage", f"{hide_password(url)} opens, {studies} {'study' if studies == 1 else 'studies'}")
