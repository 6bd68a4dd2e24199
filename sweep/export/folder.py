"""Writing an export: which trial stands for the settings, and what goes into the folder."""

from __future__ import annotations

import pprint
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from objectives.engines.adapter_files import ADAPTER_FILES
from objectives.errors import TaskError
from objectives.settings.grpo import GrpoSettings
from objectives.tasks.user_files import own_files, own_modules, own_template
from sweep.answer.paste import checkpointing_argument
from sweep.confirmation.outcome import Confirmed
from sweep.errors import StorageError, UsageError
from sweep.export.alone import alone
from sweep.storage import attributes
from sweep.storage.attributes import SEED
from sweep.storage.database import log_folder
from sweep.storage.summary import stored_config
from sweep.storage.trials import read_trials
from sweep.study.file import StudyFile
from sweep.study.space import alpha_of
from sweep.text import decimals_for

if TYPE_CHECKING:
    import optuna


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What is exported: a trial, and the verdict that it stands for."""

    trial: optuna.trial.FrozenTrial
    logs: Path
    """The log folder of the trial's study."""
    confirmed: Confirmed | None = None

    @property
    def score(self) -> float:
        """Its held-out reward."""
        score = attributes.last_score(self.trial.user_attrs)
        return float("nan") if score is None else score.sampled

    @property
    def adapter(self) -> Path | None:
        """Where its adapter was kept."""
        kept = self.trial.user_attrs.get(attributes.ADAPTER)
        return attributes.in_log_folder(kept, self.logs) if kept else None


def exported_trial(study: optuna.Study, number: int, *, url: str) -> Exported:
    """A trial of the search in the storage at `url`.

    Raises:
        UsageError: where there is none of that number that has a score.
    """
    trials = {trial.number: trial for trial in read_trials(study) if attributes.last_score(trial.user_attrs)}
    if number not in trials:
        raise UsageError(
            f"--trial {number}: no such trial with a score; allowed: {_numbers(sorted(trials)) or 'none yet'}"
        )
    return Exported(trial=trials[number], logs=log_folder(url, study.study_name))


def exported_verdict(confirmed: Confirmed, *, url: str) -> Exported:
    """The trial of the verdict's rank that is in the middle of its scores: not the luckiest.

    Raises:
        UsageError: where the verdict names no rank.
    """
    if confirmed.verdict.r is None:
        raise UsageError(f"the verdict names no rank: {confirmed.verdict.reason} --trial N exports a trial")
    logs = log_folder(url, confirmed.study.study_name)
    own = [
        Exported(trial=trial, logs=logs, confirmed=confirmed)
        for trial in read_trials(confirmed.study)
        if trial.params.get("r") == confirmed.verdict.r
        and attributes.SCORES in trial.user_attrs
        and not trial.user_attrs.get(attributes.COLLAPSED)
    ]
    middle = median(exported.score for exported in own)
    return min(own, key=lambda exported: (abs(exported.score - middle), exported.trial.number))


def write_export(exported: Exported, study: optuna.Study, folder: Path) -> None:
    """Writes the adapter where it was kept, `train.py` and `README.md`.

    Args:
        exported: What is exported.
        study: The search that it comes from.
        folder: Where to; it has to be new or empty.

    Raises:
        UsageError: where the folder holds something or cannot be written.
        StorageError: where the adapter was kept, and is no longer there.
    """
    if exported.adapter is not None and not (exported.adapter / "adapter_config.json").is_file():
        raise StorageError(f"trial {exported.trial.number}: its adapter is no longer at {exported.adapter}")
    content = _content(exported, study)
    environment = Environment(  # noqa: S701 - what is written is Python and Markdown  # nosec B701
        loader=PackageLoader("sweep", "export"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    script = "train.py.jinja" if isinstance(content["learner"], GrpoSettings) else "train_dpo.py.jinja"
    try:
        if folder.exists() and any(folder.iterdir()):
            raise UsageError(f"--output {folder}: is not empty; name a new folder")
        folder.mkdir(parents=True, exist_ok=True)
        if exported.adapter is not None:
            for name in ADAPTER_FILES:
                shutil.copyfile(exported.adapter / name, folder / name)
        for name, own in content["alone"].files.items() if content["alone"] else ():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(own)
        for template, name in ((script, "train.py"), ("card.md.jinja", "README.md")):
            (folder / name).write_text(environment.get_template(template).render(content), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--output {folder}: cannot be written: {error.strerror}") from error


def _content(exported: Exported, study: optuna.Study) -> dict[str, Any]:
    """What the templates are filled with."""
    config, trial, confirmed = stored_config(study), exported.trial, exported.confirmed
    base = attributes.base_score(trial.user_attrs)
    stored = study.user_attrs.get(attributes.BASELINE)
    baseline = base.sampled if base is not None else stored["sampled"] if stored else None
    ends = (
        [end for rank in confirmed.verdict.per_rank for end in (rank.mean, rank.lower, rank.upper)] if confirmed else []
    )
    standing = alone(config, (Path.cwd(),))
    micro_batch = config.learner.micro_batch_size or config.budget.completions_per_step
    return {
        "study": config.study.name,
        "number": trial.number,
        "score": exported.score,
        "baseline": baseline,
        "places": decimals_for([exported.score, baseline, *ends]),
        "adapter": exported.adapter is not None,
        "verdict": confirmed and confirmed.verdict,
        "horizon": confirmed and confirmed.horizon.warning,
        "warnings": confirmed.warnings if confirmed else (),
        # What a database says becomes source code: it had better be numbers.
        "r": int(trial.params["r"]),
        "alpha": int(alpha_of(trial.params) or 0),
        "rate": float(trial.params["learning_rate"]),
        "use_rslora": bool(trial.params.get("use_rslora", config.space.use_rslora[0])),
        "target_modules": config.modules_of(trial.params.get("target_modules")),
        "seed": int(trial.user_attrs.get(SEED, 0)),
        "split_seed": config.study.seed,
        "ceiling": config.ceiling_for(trial.params["r"]),
        "checkpointing": checkpointing_argument(config.model),
        "model": config.model,
        "hub_id": hub_id(config.model.name),
        "model_name": shown_name(config.model.name),
        "learner": config.learner,
        "samples": isinstance(config.learner, GrpoSettings),
        "budget": config.budget,
        "task": pprint.pformat(config.task.model_dump(mode="json", exclude_defaults=True), sort_dicts=False, width=110),
        "task_name": config.task.name,
        "user_files": ", ".join(map(repr, [*own_modules(config.task), *own_files(config.task)])),
        "alone": standing,
        "settings": config.task,
        "template": _template(config),
        "weights": list(getattr(config.task, "reward_weights", ()) or [1.0] * len(config.task.named_rewards())),
        "rows_want_tokenizer": standing is not None and standing.wants_tokenizer,
        "micro_batch": micro_batch,
        "accumulation": config.budget.completions_per_step // micro_batch,
        "versions": study.user_attrs.get(attributes.FACTS, {}).get("versions", {}),
    }


def _template(config: StudyFile) -> str | None:
    """The study's own chat template, where it has one and its file is here."""
    with suppress(TaskError):
        return own_template(config.task, (Path.cwd(),))
    return None


def hub_id(name: str) -> str | None:
    """A model's id on the hub; None for a folder of this machine or a model that comes with the project."""
    is_local = name.startswith((".", "/", "~", "shipped/")) or Path(name).exists()
    return name if name.count("/") == 1 and not is_local else None


def shown_name(name: str) -> str:
    """A model's name without the folders that lead to it on this machine."""
    return name if name.startswith("shipped/") else Path(name).name


def _numbers(numbers: list[int]) -> str:
    """Numbers as a person would list them, runs as `0-7`."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][-1] == number - 1:
            runs[-1][1:] = [number]
        else:
            runs.append([number])
    return ", ".join("-".join(map(str, run)) for run in runs)
