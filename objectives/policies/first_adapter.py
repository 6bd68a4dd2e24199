"""A base that has already learned: a first adapter, as after supervised warm-up, merged into a copy of the model."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from objectives.engines.adapter_files import ADAPTER_FILES
from objectives.errors import PolicyError, TaskError
from objectives.settings.sections import ModelSettings
from objectives.user_code.modules import find_file


def find_adapter(name: str, folders: Sequence[Path]) -> Path:
    """The folder of the adapter that a study names.

    Raises:
        PolicyError: where there is none, or it holds no adapter.
    """
    try:
        folder = find_file(name, folders)
    except TaskError as error:
        raise PolicyError(f"model.adapter: {error}; allowed: a folder that PEFT's save_pretrained wrote") from error
    if missing := [file for file in ADAPTER_FILES if not (folder / file).is_file()]:
        raise PolicyError(f"model.adapter: {folder} holds no {missing[0]}; allowed: a folder of PEFT, with safetensors")
    try:
        config = json.loads((folder / ADAPTER_FILES[0]).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PolicyError(f"model.adapter: {folder / ADAPTER_FILES[0]} cannot be read: {error}") from error
    kind = config.get("peft_type") if isinstance(config, dict) else None
    if kind != "LORA":
        raise PolicyError(f"model.adapter: {folder} holds an adapter of type {kind!r}; allowed: 'LORA'")
    return folder


def with_first_adapter(model: ModelSettings, folders: Sequence[Path], place: Path) -> ModelSettings:
    """The model to load: a copy with its first adapter merged in, which is made once and found again.

    Merged in float32 and stored in the study's number format. What is trained is a new adapter on top; the base policy,
    whose score gains are counted from, is the merged one.

    Args:
        model: As the study names it.
        folders: Where the adapter is looked for.
        place: The folder that copies are kept in.

    Raises:
        PolicyError: where the adapter cannot be read, or is not of this model.
    """
    if model.adapter is None:
        return model
    adapter = find_adapter(model.adapter, folders)
    digest = hashlib.sha256(f"{model.path} {model.number_format}".encode())
    base = Path(model.path)
    # A local base may be replaced in place; of one from the hub its name says which it is.
    for file in [*(adapter / name for name in ADAPTER_FILES), *sorted(base.glob("*.safetensors"))]:
        with file.open("rb") as content:
            digest.update(hashlib.file_digest(content, "sha256").digest())
    copy = place / f"base-{digest.hexdigest()[:16]}"
    if not copy.exists():
        place.mkdir(parents=True, exist_ok=True)
        # Made aside and moved: another worker may be at it, and whoever is killed leaves no half of a model.
        aside = Path(tempfile.mkdtemp(prefix="making-", dir=place))
        try:
            _merge(model, adapter, aside)
            aside.rename(copy)
        except OSError as error:
            if not copy.exists():
                raise PolicyError(f"the base with its first adapter cannot be written to {place}: {error}") from error
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return model.model_copy(update={"name": str(copy), "adapter": None})


def _merge(model: ModelSettings, adapter: Path, folder: Path) -> None:
    import torch
    from peft import PeftModel
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        base = AutoModelForCausalLM.from_pretrained(model.path, dtype=torch.float32)
        adapted = PeftModel.from_pretrained(base, str(adapter))
        _check_loaded(adapted, adapter)
        merged = adapted.merge_and_unload(safe_merge=True).to(getattr(torch, model.number_format))
        tokenizer = AutoTokenizer.from_pretrained(model.path)
        merged.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    except (ValueError, TypeError, AttributeError, RuntimeError, OSError, KeyError, SafetensorError) as error:
        told = " ".join(str(error).split())[:300]
        raise PolicyError(f"model.adapter: {adapter} cannot be merged into {model.name}: {told}") from error


def _check_loaded(adapted: Any, adapter: Path) -> None:
    """Checks that every tensor of the file has a place in the model, and every place a tensor.

    PEFT 0.21 goes on with a warning: what was not there would stay a new adapter, which changes nothing.

    Raises:
        ValueError: naming one that has not.
    """
    from peft import get_peft_model_state_dict
    from safetensors import safe_open

    wanted = set(get_peft_model_state_dict(adapted))
    with safe_open(adapter / ADAPTER_FILES[1], "pt") as file:
        stored = set(file.keys())
    if missing := sorted(wanted - stored):
        raise ValueError(f"it lacks {missing[0]} and {len(missing) - 1} more of the tensors that this model takes")
    if unknown := sorted(stored - wanted):
        raise ValueError(f"it holds {unknown[0]} and {len(unknown) - 1} more tensors that this model has no place for")
