"""`sweep reference`: the study's budget without an adapter, at a few learning rates on a few seeds."""

from __future__ import annotations

from collections.abc import Sequence

import optuna
from optuna.distributions import FloatDistribution
from pydantic import ValidationError
from rich.console import Console

from objectives.errors import ModelConfigError
from objectives.machine import total_memory
from objectives.memory.exact import base_weight_bytes
from objectives.settings.dpo import DpoSettings
from objectives.settings.learner import TrlSettings
from objectives.settings.sections import ModelSettings
from objectives.trial.messages import TrialSpec
from sweep.confirmation.naming import FIRST_SEED
from sweep.errors import StudyFileError, TrialsFailedError, UsageError
from sweep.live_display.display import make_progress
from sweep.planning.adapters import read_model
from sweep.running.open_study import open_to_run
from sweep.running.recipe import check, settle
from sweep.running.where import worker_device
from sweep.search.schedule import waiting_trials
from sweep.storage.attributes import DROPPED, REDONE, SEED
from sweep.storage.database import match_study, open_storage, open_study
from sweep.storage.reference import Reference, reference_name
from sweep.storage.schema import as_declared
from sweep.storage.summary import summarize
from sweep.study.file import SearchSection, SpaceSection, StudyFile
from sweep.study.verdict_section import VerdictSection
from sweep.text import size

RATES = FloatDistribution(1e-12, 1.0, log=True)
"""Any learning rate: each is queued as it was asked for, and later runs may ask for others."""
SLOWER = 10.0
"""How far below an adapter's rates those of full fine-tuning are looked for: the factor that Schulman and others (LoRA
Without Regret, Thinking Machines, 2025) found between the best of the two."""
COPIES = 6
"""Float32 copies of the weights that are held at once: the engine's, the trained ones with their gradients and two
moments, and the base's to go back to."""


class ReferenceSchedule:
    """Every rate on the same seeds, seed by seed."""

    score_after: tuple[int, ...] = ()

    def __init__(self, rates: Sequence[float], *, seeds: range) -> None:
        self._cells = [(rate, seed) for seed in seeds for rate in rates]
        self.trials = len(self._cells)

    def queue(self, study: optuna.Study) -> None:
        """See `TrialSchedule.queue`."""
        stored = [trial for trial in study.get_trials(deepcopy=False) if REDONE not in trial.user_attrs]
        held = {
            (trial.system_attrs["fixed_params"]["learning_rate"], trial.user_attrs[SEED])
            for trial in stored
            # What failed before this run is tried again, once a run.
            if trial.state.name != "FAIL" or DROPPED in trial.user_attrs
        }
        queued = [cell for cell in self._cells if cell not in held]
        self.trials = len(stored) + len(queued)
        for rate, seed in queued:
            study.enqueue_trial({"learning_rate": rate}, user_attrs={SEED: seed})

    def next_trial(self, study: optuna.Study) -> optuna.Trial | None:
        """See `TrialSchedule.next_trial`."""
        return study.ask({"learning_rate": RATES}) if waiting_trials(study) else None

    def needs(self, spec: TrialSpec) -> bool:
        """See `TrialSchedule.needs`."""
        return True


def run_reference(
    config: StudyFile, *, storage: str, rates: Sequence[float], seeds: int, console: Console
) -> tuple[Reference, int]:
    """Trains all weights for the study's budget, or goes on with that.

    Args:
        config: The study, as it was read.
        storage: Where its search is stored, a SQLAlchemy URL.
        rates: Learning rates; none for a tenth of the study's.
        seeds: A rate: the first ones of the study's first confirmation.
        console: Where progress is shown.

    Returns:
        What it has come to, and with how many decimals rewards are told apart.

    Raises:
        UsageError: where a rate is none.
        StudyFileError: where the study cannot be trained without an adapter, or not here.
        TrialsFailedError: where no trial gets through, or a fault stops the study.
    """
    if outside := [rate for rate in rates if not RATES.low <= rate <= RATES.high]:
        raise UsageError(f"--learning-rate {outside[0]:g}; allowed: {RATES.low:g} to {RATES.high:g}")
    check(config)
    opened = open_storage(storage, create=False, curves=False)
    searched = open_study(opened, config.study.name)
    config = settle(as_declared(searched, config), searched)
    match_study(searched, config)
    whole = without_adapters(config)
    asked = sorted(set(rates)) or [float(f"{rate / SLOWER:.3g}") for rate in config.space.learning_rate]
    first = config.study.seed + FIRST_SEED
    with open_to_run(whole, opened, name=reference_name(config.study.name)) as run:
        schedule = ReferenceSchedule(asked, seeds=range(first, first + seeds))
        run.supervise(schedule, progress=make_progress(console))
        logs = run.logs
    summary = summarize(searched)
    if summary.reference is None:
        raise TrialsFailedError(f"every trial without an adapter failed; their logs say why: {logs}")
    return summary.reference, summary.decimals


def without_adapters(config: StudyFile) -> StudyFile:
    """The study with all weights trained, by TRL, under the objective that its adapters had.

    What it says of adapters, search and verdict is left out: a study that is extended keeps its reference.

    Raises:
        StudyFileError: where it cannot be.
    """
    if isinstance(config.learner, DpoSettings):
        raise StudyFileError("sweep reference trains by GRPO; got learner.name = 'dpo'")
    if config.learner.beta > 0:
        raise StudyFileError(
            f"learner.beta={config.learner.beta:g} needs the base policy beside the trained one, which full "
            "fine-tuning overwrites: only a study that was begun with learner.beta = 0 can have a reference"
        )
    if config.model.load_in_4bit:
        raise StudyFileError(
            "model.load_in_4bit: there is no full fine-tuning of a base in 4 bits: only a study that was begun with "
            "model.load_in_4bit = false can have a reference"
        )
    _check_memory(config)
    given = {key: value for key, value in config.learner.model_dump().items() if key in TrlSettings.model_fields}
    try:
        learner = TrlSettings.model_validate(given | {"name": "trl", "importance_sampling_correction": "none"})
    except ValidationError as error:
        raise StudyFileError(f"sweep reference trains by TRL: {error.errors()[0]['msg']}") from error
    kept = ("name", "adapter", "device", "max_seq_length", "gpu_memory_utilization", "gradient_checkpointing")
    model = {key: getattr(config.model, key) for key in kept}
    return config.model_copy(
        update={
            # In 16 bits, updates of a step's size would be rounded away.
            "model": ModelSettings(**model, policy="whole", engine="transformers", dtype="float32", max_lora_rank=1),
            "learner": learner,
            "space": SpaceSection(r=(1,), alpha=(1,), learning_rate=(RATES.low,)),
            "search": SearchSection(points_per_rank=1, collapse_patience=config.search.collapse_patience),
            "verdict": VerdictSection(),
            "run": config.run.model_copy(update={"workers": 1, "ray": None}),
        }
    )


def _check_memory(config: StudyFile) -> None:
    try:
        shape = read_model(config.model.name).shape
    except ModelConfigError:  # the loaded model will tell
        return
    device = worker_device(config)
    needed, there = COPIES * base_weight_bytes(shape, "float32"), device.memory_bytes if device else total_memory()
    if there is not None and needed > there:
        raise StudyFileError(
            f"model.name: full fine-tuning of {config.model.name} holds {size(needed)} of weights, gradients and "
            f"moments; {device.name if device else 'this machine'} has {size(there)}. It is for models small enough"
        )
