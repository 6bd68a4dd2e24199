"""What a study names outside its file, checked before anything heavy loads: model, code, data, device."""

from __future__ import annotations

import difflib
import importlib.util
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from objectives.errors import ModelConfigError, PolicyError, TaskError
from objectives.memory.config_files import BROUGHT, find_config
from objectives.memory.exact import check_targets
from objectives.memory.shape import ModelShape, make_shape, read_config
from objectives.policies.first_adapter import find_adapter
from objectives.rewards.calling import check_names, columns_of, reward_names
from objectives.rewards.values import check_parameters
from objectives.settings.sections import SHIPPED_MODELS
from objectives.settings.task_common import RowsSettings
from objectives.settings.tasks import CustomTaskSettings, Gsm8kSettings, ReasoningGymSettings
from objectives.tasks.build import build_task
from objectives.tasks.code_rows import is_code
from objectives.tasks.protocol import Task
from objectives.tasks.reasoning_gym import make_dataset
from objectives.tasks.rows import is_local
from objectives.tasks.user_files import own_files, own_references
from objectives.user_code.modules import check_reference, find_file, find_parameters
from sweep.errors import StudyFileError
from sweep.preflight.devices import VISIBLE, gpus_hidden, shows_gpu
from sweep.preflight.placement import Placement, place_here
from sweep.preflight.prompts import PromptPlan, find_tokenizer, fitting, plan_prompts
from sweep.study.file import StudyFile


def check_study(study: StudyFile) -> PromptPlan | None:
    """Checks everything that can be checked without a model, a hub or the user's code being run.

    Returns:
        How long the prompts are, where the data and the model's tokenizer are on this machine.

    Raises:
        StudyFileError: naming the first thing that is wrong.
    """
    check_model(study.model.name, study.model.path)
    _check_first_adapter(study)
    _check_targets(study)
    _check_trackers(study)
    _check_optimizer(study)
    try:
        return _check_task(study)
    except TaskError as error:
        raise StudyFileError(f"task: {error}") from error


def _check_first_adapter(study: StudyFile) -> None:
    if study.model.adapter is not None:
        try:
            find_adapter(study.model.adapter, study.code_folders)
        except PolicyError as error:
            raise StudyFileError(str(error)) from error


def _check_targets(study: StudyFile) -> None:
    try:
        config = read_config(find_config(study.model.path))
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


def check_model(name: str, path: str) -> None:
    """Checks a model that is a local folder; a hub id is left to the hub.

    Args:
        name: As the study gives it.
        path: What a loader is given for it.

    Raises:
        StudyFileError: where there is no such folder, or it holds no model.
    """
    folder = Path(path).expanduser()
    if folder.is_dir():
        _check_config(name, folder / "config.json")
    elif name in BROUGHT:
        raise StudyFileError(f"model.name: {name!r} is not on this machine yet: {BROUGHT[name]}")
    elif name.startswith("shipped/"):
        known = sorted(f"shipped/{config.parent.name}" for config in SHIPPED_MODELS.glob("*/config.json"))
        raise StudyFileError(f"model.name: no model {name!r}; allowed: {', '.join(known)}, a folder, or a hub id")
    elif name.startswith((".", "/", "~")) or name.count("/") > 1 or folder.exists():
        raise StudyFileError(f"model.name: no folder {name!r}; allowed: a folder with a config.json, or a hub id")


def _check_trackers(study: StudyFile) -> None:
    packages = {"tensorboard": ("tensorboard", "tensorboardX")}
    for tracker in study.learner.report_to:
        if not any(map(importlib.util.find_spec, packages.get(tracker, (tracker,)))):
            raise StudyFileError(f"learner.report_to: {tracker!r} is not installed; `pip install {tracker}` brings it")


def _check_optimizer(study: StudyFile) -> None:
    optim = study.learner.optim
    if optim.endswith(("8bit", "32bit")) and not importlib.util.find_spec("bitsandbytes"):
        raise StudyFileError(
            f"learner.optim: {optim!r} needs bitsandbytes, which is not installed; `pip install bitsandbytes` brings it"
        )


def _check_config(name: str, config: Path) -> None:
    try:
        content = json.loads(config.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise StudyFileError(f"model.name: {name!r} has no config.json: it holds no Hugging Face model") from error
    except (OSError, ValueError, RecursionError) as error:
        raise StudyFileError(f"model.name: {config} cannot be read: {error}") from error
    if not isinstance(content, dict) or "model_type" not in content:
        raise StudyFileError(f"model.name: {config} names no model_type: it describes no Hugging Face model")


def _check_task(study: StudyFile) -> PromptPlan | None:
    task, folders = study.task, study.code_folders
    for reference in own_references(task):
        check_reference(reference, folders)
    for name in own_files(task, folders):
        find_file(name, folders)
    if task.reward:  # what others a task has is known once it is made
        check_names(study.guarded_rewards, list(task.named_rewards()))
    if isinstance(task, RowsSettings) and is_code(task.data):  # the user's code, which runs in the worker
        return None
    if isinstance(task, RowsSettings | Gsm8kSettings) and not is_local(task.data, folders):
        _check_hub_id(task.data)
        return None
    if isinstance(task, ReasoningGymSettings | CustomTaskSettings):  # one is slow to make, the other the user's code
        return None
    tokenizer = find_tokenizer(study)
    # Without its tokenizer nobody knows here; the worker will tell.
    chat = tokenizer is None or tokenizer.chat_template is not None
    made = build_task(task, seed=study.study.seed, folders=folders, chat=chat)
    check_names(study.guarded_rewards, reward_names(made, task))
    _check_number(study, made)
    _check_parameters(study, made)
    if tokenizer is None:
        return None
    short = fitting(made, study, tokenizer)
    _check_number(study, short)
    return plan_prompts(short, study)


def _check_number(study: StudyFile, task: Task) -> None:
    prompts, needed = len(task.train_rows(study.task.train_prompts)), study.budget.prompts_per_step
    if prompts < needed:
        raise TaskError(f"{prompts} training prompts are fewer than budget.prompts_per_step={needed}")


def _check_parameters(study: StudyFile, task: Task) -> None:
    """Checks that rewards can be called with the task's columns, as far as their source tells."""
    columns = columns_of(task.train_rows(1)[0])
    for name, reference in study.task.named_rewards().items():
        if (parameters := find_parameters(reference, study.code_folders)) is not None:
            check_parameters(name, columns, **parameters)


def _check_hub_id(data: str) -> None:
    if data.count("/") > 1 or " " in data:
        near = difflib.get_close_matches(data, [str(path) for path in Path().glob("*.jsonl")], n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise TaskError(
            f"data {data!r} is neither a .jsonl, .json, .csv or .parquet file nor a hub id (owner/name){hint}"
        )


def check_generator(study: StudyFile) -> None:
    """Checks a reasoning-gym task's name and options. It takes seconds, for the package is slow to import.

    Raises:
        StudyFileError: where the package is absent, or refuses one of them.
    """
    if isinstance(study.task, ReasoningGymSettings):
        try:
            make_dataset(study.task, size=2, seed=study.study.seed)
        except TaskError as error:
            raise StudyFileError(f"task: {error}") from error


def check_device(study: StudyFile) -> None:
    """Checks that a study which needs a GPU has one here, and that it can be run on what there is.

    Raises:
        StudyFileError: where it has none, or packs cannot be trained there.
    """
    if study.model.device == "gpu" and (not shows_gpu() or gpus_hidden()):
        why = "this machine shows none"
        if shows_gpu():
            why = f"{VISIBLE}={os.environ[VISIBLE]!r} hides this machine's"
        raise StudyFileError(
            f"study {study.study.name!r} needs an NVIDIA GPU (model.device = 'gpu'), and {why}; "
            "`sweep plan` plans it anywhere, and --set model.device=any runs it here"
        )
    check_placed(study, place_here(study))


def check_placed(study: StudyFile, placed: Placement) -> None:
    """Checks that a study can be run where it is placed.

    Raises:
        StudyFileError: where its base cannot be loaded or its packs cannot be trained there.
    """
    if study.model.load_in_4bit and placed.engine == "vllm" and not placed.on_gpu:
        raise StudyFileError(
            "model.load_in_4bit needs a GPU, because vLLM's CPU build has no bitsandbytes; "
            "--set model.load_in_4bit=false runs it here"
        )
    if reason := placed.unpackable:
        raise StudyFileError(reason)
