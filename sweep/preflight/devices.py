"""GPUs and their memory: common ones by name, and the one in this machine, found without torch."""

from __future__ import annotations

import difflib
import math
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sweep.errors import UsageError
from sweep.preflight.cards import BEFORE_AMPERE, CARDS, Card, find_card

MIB, GIB = 2**20, 2**30
VISIBLE = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A GPU to plan for."""

    name: str
    memory_bytes: int
    source: Literal["--device", "nvidia-smi"]
    bfloat16: bool = True
    """Whether it computes in bfloat16, as GPUs from Ampere on do."""
    card: Card | None = None
    """What its data sheet says; None where it is no card of the table."""


def named_device(name: str) -> Device:
    """A GPU from the table by its name, spelt in any way, or any other by its memory, as `48GiB`.

    Raises:
        UsageError: where it is neither.
    """
    by_key = {_key(known): known for known in CARDS}
    if (known := by_key.get(_key(name))) is not None:
        return _device(known, CARDS[known].memory_mib, source="--device")
    if (size := re.fullmatch(r"(\d{1,5}(?:\.\d{1,3})?)\s*GiB", name.strip(), re.IGNORECASE)) and float(size[1]) > 0:
        return Device(name=f"{float(size[1]):g} GiB", memory_bytes=int(float(size[1]) * GIB), source="--device")
    near = [by_key[key] for key in by_key if _key(name) and key.startswith(_key(name))]
    near = near or [by_key[key] for key in difflib.get_close_matches(_key(name), by_key, n=1)]
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    raise UsageError(f"--device {name!r}; {hint}allowed: {', '.join(CARDS)}, or a size as 48GiB")


def planned_device(name: str | None) -> Device | None:
    """The GPU to plan for: the one of this name or, without any, the one that may be used here.

    Raises:
        UsageError: where there is no such name.
    """
    if name is not None:
        return named_device(name)
    return None if gpus_hidden() else present_device()


def present_device() -> Device | None:
    """The first GPU that may be used here; None where nvidia-smi shows none."""
    name, _, memory_mib = (ask_nvidia_smi("name,memory.total", timeout_s=5) or "").rpartition(",")
    try:
        return _device(name.strip(), int(memory_mib), source="nvidia-smi")
    except ValueError:
        return None


def count_gpus() -> int:
    """How many GPUs nvidia-smi lists."""
    return len(_list_gpus("index", timeout_s=5))


def visible_gpus() -> tuple[str, ...]:
    """The GPUs that this process and those that it starts may use, as CUDA names them: by number, or by id.

    CUDA reads CUDA_VISIBLE_DEVICES up to the first entry that names no GPU, as -1 or a number above the last; an empty
    list hides them all, and so does one that names a GPU twice (`torch.cuda._parse_visible_devices`, torch 2.13).
    """
    count, mask = count_gpus(), os.environ.get(VISIBLE)
    if mask is None:
        return tuple(map(str, range(count)))
    named: list[str] = []
    for entry in map(str.strip, mask.split(",")):
        number = re.match(r"\+?(\d+)", entry)
        # Where nvidia-smi does not tell how many there are, any number may be one.
        if not entry.startswith(("GPU-", "MIG-")) and (number is None or int(number[1]) >= (count or math.inf)):
            break
        named.append(entry if number is None else str(int(number[1])))
    return () if len(set(named)) < len(named) else tuple(named)


def gpus_hidden() -> bool:
    """Whether CUDA_VISIBLE_DEVICES hides every GPU that there may be."""
    return VISIBLE in os.environ and not visible_gpus()


def ask_nvidia_smi(fields: str, *, timeout_s: float) -> str | None:
    """What nvidia-smi lists of the first GPU that may be used here; None where there is none, or no answer.

    That is the first that CUDA_VISIBLE_DEVICES names, and the first of all where it is not set or hides all. Numbers
    are taken for nvidia-smi's: CUDA counts as it does where CUDA_DEVICE_ORDER is PCI_BUS_ID, or all GPUs are alike.
    """
    visible = visible_gpus() if VISIBLE in os.environ else ()
    for number, line in enumerate(_list_gpus(f"{fields},uuid", timeout_s=timeout_s)):
        asked = fields.count(",") + 1
        listed, uuid = line.split(",")[:asked], ",".join(line.split(",")[asked:]).strip()
        # An id may be shortened, as long as it names one GPU.
        if not visible or visible[0] == str(number) or (uuid and uuid.startswith(visible[0])):
            return ",".join(listed)
    return None


def _list_gpus(fields: str, *, timeout_s: float) -> list[str]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    query = [program, f"--query-gpu={fields}", "--format=csv,noheader,nounits"]
    try:
        # A driver that is stuck lets nvidia-smi hang, and a plan is made in a second.
        listed = subprocess.run(query, capture_output=True, text=True, timeout=timeout_s, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return listed.splitlines()


def shows_gpu() -> bool:
    """Whether this machine shows an NVIDIA GPU, with or without a driver's tools."""
    return any(Path("/dev").glob("nvidia[0-9]*"))


def _device(name: str, memory_mib: int, *, source: Literal["--device", "nvidia-smi"]) -> Device:
    old = BEFORE_AMPERE.search(name) is not None
    card = CARDS.get(name) or find_card(name, memory_mib)
    return Device(name=name, memory_bytes=memory_mib * MIB, source=source, bfloat16=not old, card=card)


def _key(name: str) -> str:
    """A name without what spellings differ in: makers, brands, units, blanks."""
    words = re.sub(r"nvidia|geforce|tesla|quadro|rtx|gb\b|gib\b", " ", name.lower())
    return re.sub(r"[^a-z0-9]", "", words)
