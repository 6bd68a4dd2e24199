"""Where a model's config.json lies: in a folder, in the hub cache, or shipped with the project. No network."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

from objectives.errors import ModelConfigError, UnknownModelError
from objectives.settings.sections import SHIPPED_MODELS

SHIPPED_CONFIGS = SHIPPED_MODELS / "configs"
"""The shapes of models that shipped studies name, as `organisation--name.json`."""
BROUGHT = {
    "shipped/small": "`make policy-small` (python -m objectives.models.make_small)",
    "shipped/smollm2_135m": "`make smollm2` (python -m objectives.models.make_smollm2)",
}
"""Models whose weights do not come with the project, and what brings them."""
REPOSITORY = re.compile(r"[\w.-]{1,96}(/[\w.-]{1,96})?")


def find_config(name: str) -> Path:
    """The config.json of a model, by the name that a study gives it.

    Args:
        name: A folder, a config.json, `shipped/...`, or a hub id that is in the hub cache or shipped as a shape.

    Raises:
        ModelConfigError: where there is none.
    """
    prefix, _, rest = name.partition("/")
    path = SHIPPED_MODELS / rest if prefix == "shipped" and rest else Path(name)
    if _is(path, folder=False):
        return path
    if _is(path, folder=True):
        if (config := path / "config.json").is_file():
            return config
        if name not in BROUGHT:
            raise ModelConfigError(f"{name!r} is a folder without a config.json")
    if REPOSITORY.fullmatch(name) and (prefix != "shipped" or name in BROUGHT):
        flat = name.replace("/", "--")
        for found in (_cached_config(flat), SHIPPED_CONFIGS / f"{flat}.json"):
            if found is not None and found.is_file():
                return found
    is_repository = REPOSITORY.fullmatch(name) is not None and "/" in name and prefix not in ("shipped", ".", "..")
    raise (UnknownModelError if is_repository else ModelConfigError)(
        f"no config.json for {name!r}; allowed: a model's folder, or a hub id that is in the cache "
        f"({hub_cache()}), where `hf download <id> config.json` puts it"
    )


def hub_cache() -> Path:
    """The folder where huggingface_hub keeps repositories, by the variables that it reads."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if value := os.environ.get(variable):
            return Path(value).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("HF_HOME") or f"{cache}/huggingface").expanduser() / "hub"


def _cached_config(flat: str) -> Path | None:
    """The config.json of the snapshot that `main` points to, else of the newest."""
    snapshots = hub_cache() / f"models--{flat}" / "snapshots"
    with suppress(OSError):
        main = (snapshots.parent / "refs" / "main").read_text(encoding="utf-8", errors="replace").strip()
        if (config := snapshots / main / "config.json").is_file():
            return config
    return max(snapshots.glob("*/config.json"), key=lambda path: path.stat().st_mtime, default=None)


def _is(path: Path, *, folder: bool) -> bool:
    """Whether there is such a folder or file; a name that no file can have is none."""
    try:
        return path.is_dir() if folder else path.is_file()
    except (OSError, ValueError):
        return False
