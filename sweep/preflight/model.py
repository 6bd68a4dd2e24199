"""What a study names as its model: whether it is there, and whether it can have the study's adapters."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from objectives.errors import ModelConfigError, PolicyError
from objectives.memory.config_files import BROUGHT, find_config
from objectives.memory.exact import check_targets
from objectives.memory.shape import ModelShape, make_shape, read_config
from objectives.policies.first_adapter import find_adapter
from objectives.settings.sections import SHIPPED_MODELS
from sweep.errors import StudyFileError
from sweep.study.file import StudyFile

WEIGHTS = ("model*.safetensors", "pytorch_model*.bin", "model.safetensors.index.json")
"""Files in a model's folder, one of which a loader wants."""


def check_model(name: str, path: str) -> None:
    """Checks a model that is a local folder; a hub id is left to the hub.

    Args:
        name: As the study gives it.
        path: What a loader is given for it.

    Raises:
        StudyFileError: where there is no such folder, or it holds no model.
    """
    folder = Path(path).expanduser()
    if name in BROUGHT:
        return  # what it is, is known without its folder; `check_weights` looks into that
    if folder.is_dir():
        _check_config(name, folder / "config.json")
    elif name.startswith("shipped/"):
        known = sorted(
            {f"shipped/{config.parent.name}" for config in SHIPPED_MODELS.glob("*/config.json")} | BROUGHT.keys()
        )
        raise StudyFileError(f"model.name: no model {name!r}; allowed: {', '.join(known)}, a folder, or a hub id")
    elif name.startswith((".", "/", "~")) or name.count("/") > 1 or folder.exists():
        raise StudyFileError(f"model.name: no folder {name!r}; allowed: a folder with a config.json, or a hub id")


def check_weights(name: str, path: str) -> None:
    """Checks that a model's folder has weights; a hub id is left to the hub.

    Args:
        name: As the study gives it.
        path: What a loader is given for it.

    Raises:
        StudyFileError: where it has none.
    """
    folder = Path(path).expanduser()
    there = any(next(folder.glob(pattern), None) for pattern in WEIGHTS)
    if name in BROUGHT and not (there and (folder / "tokenizer.json").is_file()):
        raise StudyFileError(f"model.name: {name!r} is not on this machine yet; {BROUGHT[name]} brings it")
    if there:
        return
    if folder.is_dir():
        raise StudyFileError(f"model.name: {name!r} has no weights; looked for: {', '.join(WEIGHTS)}")


def check_adapted(study: StudyFile) -> None:
    """Checks a first adapter, and that the model has the modules, widths and positions that the study takes.

    Raises:
        StudyFileError: naming the first thing that is wrong.
    """
    _check_first_adapter(study)
    _check_targets(study)


def _check_config(name: str, config: Path) -> None:
    try:
        content = json.loads(config.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise StudyFileError(f"model.name: {name!r} has no config.json: it holds no Hugging Face model") from error
    except (OSError, ValueError, RecursionError) as error:
        raise StudyFileError(f"model.name: {config} cannot be read: {error}") from error
    if not isinstance(content, dict) or "model_type" not in content:
        raise StudyFileError(f"model.name: {config} names no model_type: it describes no Hugging Face model")


def _check_first_adapter(study: StudyFile) -> None:
    if study.model.adapter is not None:
        try:
            find_adapter(study.model.adapter, study.code_folders)
        except PolicyError as error:
            raise StudyFileError(str(error)) from error


def _check_targets(study: StudyFile) -> None:
    try:
        config = read_config(find_config(study.model.name))
        _check_length(study, config)
        shape = make_shape(config)
    except ModelConfigError:  # the loaded model will tell
        return
    try:
        check_targets(shape, study.target_modules)
    except ModelConfigError as error:
        raise StudyFileError(f"model: {error}") from error
    _check_directions(study, shape)


def _check_directions(study: StudyFile, shape: ModelShape) -> None:
    """PEFT would make an adapter of a lower rank, without a word."""
    if not study.model.changes_base:
        return
    adapted = [linear for linear in shape.linears if linear.name in study.target_modules]
    narrow = min((min(linear.inputs, linear.outputs) for linear in adapted), default=None)
    if narrow is not None and (top := study.search_space().r[-1]) > narrow:
        raise StudyFileError(
            f"space.r: r={top} with model.init_lora_weights={study.model.init_lora_weights!r} takes more directions "
            f"out of the base than the narrowest target module has; allowed: up to {narrow}"
        )


def _check_length(study: StudyFile, config: Mapping[str, Any]) -> None:
    positions, length = config.get("max_position_embeddings"), study.model.max_seq_length
    # Transformers 5 writes `rope_parameters`, whether positions are scaled or not; before it was `rope_scaling`.
    rope = config.get("rope_parameters")
    scaled = config.get("rope_scaling") or (isinstance(rope, dict) and rope.get("rope_type", "default") != "default")
    if isinstance(positions, int) and not scaled and length > positions:
        raise StudyFileError(
            f"model.max_seq_length={length} exceeds the {positions} positions that {study.model.name} has; "
            f"allowed: up to {positions}"
        )
