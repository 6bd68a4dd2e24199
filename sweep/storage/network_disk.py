"""File systems on which SQLite's write-ahead log is not safe: its index is memory that processes share."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

MAGIC = {
    0x6969: "NFS", 0xFF534D42: "CIFS", 0xFE534D42: "SMB", 0x517B: "SMB", 0x0BD00BD0: "Lustre", 0x00C36400: "Ceph",
    0x47504653: "GPFS", 0x19830326: "BeeGFS", 0x5346414F: "AFS", 0x65735546: "FUSE",
}  # fmt: skip
"""What `statfs` calls each (linux/magic.h, and the makers' own headers)."""


def network_disk(magic: int) -> str | None:
    """The name of a file system that SQLite's log must not lie on; None for any other."""
    # Where a long has 32 bits, a large number comes out negative.
    return MAGIC.get(magic & 0xFFFFFFFF)


def magic_number(folder: Path) -> int:
    """What `statfs` says a folder lies on; 0 where it says nothing."""
    # Python's own os.statvfs leaves the type out. It is the structure's first word.
    buffer = (ctypes.c_long * 64)()
    libc = ctypes.CDLL(None)
    failed = libc.statfs(os.fsencode(folder), ctypes.byref(buffer))
    return 0 if failed else int(buffer[0])
