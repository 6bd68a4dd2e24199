"""Handing a policy's adapter to an engine: a fresh id, name and folder for every version of its weights."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
"""What a PEFT folder holds. Weights of the older kind, `adapter_model.bin`, are pickled, and never read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterVersion:
    """An adapter's weights at one moment, saved as a PEFT folder. No two versions share id, name or path."""

    id: int
    name: str
    path: Path
    r: int


_IDS = itertools.count(1)


def largest_adapter_bytes(model: Any, r: int, target_modules: Sequence[str]) -> int:
    """Bytes of a saved float32 adapter of this rank.

    Args:
        model: The base, a torch module.
        r: The adapter's rank.
        target_modules: The last parts of the names of the linear modules that get one.
    """
    targets = set(target_modules)
    linears = [module for name, module in model.named_modules() if name.rpartition(".")[2] in targets]
    # 4 bytes each: PEFT keeps adapters in float32, whatever the base is in.
    return sum(4 * r * (linear.in_features + linear.out_features) for linear in linears)


def _weights(policy: Any) -> dict[str, Any] | None:
    """The adapters' weights of a PEFT model on the CPU; None where the policy knows better."""
    if not hasattr(policy, "named_parameters"):
        return None
    # Here, for workers import this module before torch may be loaded.
    from objectives.engines.host_copy import host_copy

    return host_copy({name: weight for name, weight in policy.named_parameters() if "lora_" in name})


class AdapterFolder:
    """A folder that holds the newest version of each live adapter.

    vLLM 0.32 keys its prefix cache by adapter name and path, not by id: with either reused, new weights are
    served cached tokens of the old ones. So versions are numbered for as long as the process lives.
    """

    def __init__(self, path: Path, *, keep_in: Path | None = None) -> None:
        """Sets up.

        Args:
            path: Where versions come and go.
            keep_in: Where adapters of ended trials stay; default: none do.
        """
        self.path = path
        self._keep_in = keep_in
        self._newest: dict[str, AdapterVersion] = {}

    def publish(self, owner: str, policy: Any, r: int) -> AdapterVersion:
        """Saves the policy's adapter as it is now, and forgets the owner's older version.

        Args:
            owner: Whose adapter this is; one per trial.
            policy: A PEFT model, or what saves itself as one does.
            r: Its rank.
        """
        number = next(_IDS)
        name = f"{owner}-v{number}"
        version = AdapterVersion(id=number, name=name, path=self.path / name, r=r)
        # "auto" would ask the hub whether the base model's vocabulary had grown.
        policy.save_pretrained(str(version.path), save_embedding_layers=False, state_dict=_weights(policy))
        self.forget(owner)
        self._newest[owner] = version
        return version

    def keep(self, owner: str) -> str | None:
        """Copies the owner's newest version to where it stays; the folder, None where none are kept."""
        if self._keep_in is None:
            return None
        kept = self._keep_in / f"{owner}-adapter"
        shutil.copytree(self._newest[owner].path, kept, dirs_exist_ok=True)
        return str(kept)

    def forget(self, owner: str) -> None:
        """Removes the owner's newest version, if there is one."""
        if (old := self._newest.pop(owner, None)) is not None:
            shutil.rmtree(old.path, ignore_errors=True)
