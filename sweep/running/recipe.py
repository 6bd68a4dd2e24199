"""How a study is run, from its file to what is stored: the one way, for the command line, notebooks and benchmarks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import optuna
from rich.console import Console

from objectives.preview import Preview
from sweep.answer.learning import DesignWatch
from sweep.confirmation.naming import confirmation_name, first_seed, generation_of
from sweep.confirmation.outcome import Confirmed, count_look, freeze, read_confirmation, store_frozen
from sweep.confirmation.schedule import ConfirmSchedule
from sweep.early_stopping.pruner import make_pruner
from sweep.errors import NothingToConfirmError, TrialsFailedError
from sweep.live_display.display import ProgressDisplay, make_progress
from sweep.planning.pack import sized_pack
from sweep.planning.verdict import plan_verdict
from sweep.preflight.checks import check_device, check_generator, check_study
from sweep.preflight.number_format import settle_dtype, with_dtype
from sweep.preflight.placement import device_here
from sweep.preflight.prompts import PromptPlan
from sweep.running.reward_preview import Signal, check_reward, judge_signal
from sweep.running.supervisor import Supervisor, TrialSchedule
from sweep.search.schedule import SearchSchedule, ended_trials, make_sampler
from sweep.storage.bulk import BulkStorage
from sweep.storage.database import (
    create_or_match_study,
    log_folder,
    match_study,
    open_storage,
    open_study,
    stored_study,
)
from sweep.storage.schema import CURRENT, as_declared, declared_note, rule_of, schema_of
from sweep.storage.summary import StudySummary, summarize
from sweep.storage.writer import sole_writer
from sweep.study.file import StudyFile
from sweep.study.pruners import pruner_warning
from sweep.terminal.verdict import plan_lines


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenStudy:
    """A stored study that this process alone may run."""

    study: optuna.Study
    config: StudyFile
    logs: Path

    def supervise(
        self, schedule: TrialSchedule, *, progress: ProgressDisplay, after_trial: Callable[[], None] = lambda: None
    ) -> None:
        """Runs what is left of a schedule. See `Supervisor.run`."""
        Supervisor(
            self.study, self.config, schedule, log_folder=self.logs, progress=progress, after_trial=after_trial
        ).run()


@contextmanager
def open_to_run(
    config: StudyFile,
    storage: BulkStorage,
    *,
    sampler: optuna.samplers.BaseSampler | None = None,
    pruner: optuna.pruners.BasePruner | None = None,
    name: str | None = None,
    schema: int = CURRENT,
) -> Iterator[OpenStudy]:
    """Opens a study, or makes it, and holds its lock.

    Args:
        config: What it is, settled for this machine.
        storage: Where it is stored.
        sampler: Proposes trials; default: none is asked to.
        pruner: May end trials early; default: nobody may.
        name: In storage; default: the study file's.
        schema: What a new study is begun under.

    Raises:
        StorageError: where another process runs it.
        StudyMismatchError: where it is stored with other settings.
    """
    name = name or config.study.name
    logs = log_folder(storage.url, name)
    with sole_writer(storage, name, logs=logs) as writer:
        sampler = sampler or optuna.samplers.RandomSampler()
        study = create_or_match_study(writer.storage, config, sampler, pruner=pruner, name=name, schema=schema)
        writer.claim(study)
        yield OpenStudy(study=study, config=config, logs=logs)


def check(config: StudyFile) -> PromptPlan | None:
    """Checks everything that a study names, and this machine. See `check_study` for what it gives back.

    Raises:
        StudyFileError: naming the first thing that is wrong.
    """
    prompts = check_study(config)
    check_device(config)
    check_generator(config)
    return prompts


def settle(config: StudyFile, stored: optuna.Study | None) -> StudyFile:
    """The study with what was left open settled for this machine: its number format and the size of a pack.

    Raises:
        StudyMismatchError: where it was begun in a number format that this machine does not compute in.
    """
    return sized_pack(settle_dtype(config, stored, device_here()))


@dataclass(frozen=True, slots=True, kw_only=True)
class TriedReward:
    """What a reward says of the base policy's completions, and whether the study can do with that."""

    preview: Preview
    signal: Signal
    reach: str
    """What the declared verdict can show against the reward's spread."""


def try_reward(config: StudyFile, *, prompts: int, tell: Callable[[str], None]) -> TriedReward:
    """Samples the base policy and rewards it; nothing is trained and nothing stored.

    Args:
        config: The study, as it was read.
        prompts: How many to sample a group of completions for.
        tell: Is told what the worker is doing.

    Raises:
        TrialsFailedError: where the worker cannot load, or a reward breaks its contract.
        StudyFileError: where the study cannot be run as it stands.
    """
    config = with_dtype(config, device_here())
    planned = check(config)
    preview = check_reward(config, prompts=prompts, tell=tell)
    reach = plan_verdict(config, held_out=None if planned is None else planned.held_out)
    return TriedReward(preview=preview, signal=judge_signal(preview), reach=reach.against(preview.spread))


def run_search(config: StudyFile, *, storage: str, console: Console) -> StudySummary:
    """Runs a study's search, or goes on with it.

    Args:
        config: The study, as it was read.
        storage: Where it is stored, a SQLAlchemy URL.
        console: Where progress is shown, and what a reader should know.

    Raises:
        TrialsFailedError: where no trial gets through, or a fault stops the study.
        SweepError: where it cannot be run as it stands.
    """
    check(config)
    opened = open_storage(storage, create=True, curves=False)
    config = settle(config, stored_study(opened, config.study.name))
    for note in _settled(config):
        console.print(note, markup=False, highlight=False)
    sampler = make_sampler(
        design_size=config.search.points_per_rank * len(config.search_space().r), seed=config.study.seed
    )
    with open_to_run(config, opened, sampler=sampler, pruner=make_pruner(config)) as run:
        if note := declared_note(run.study):
            console.print(note, markup=False, highlight=False)
        watch = DesignWatch(run.study, console)
        run.supervise(SearchSchedule(config), progress=make_progress(console), after_trial=watch.look)
    summary = summarize(run.study)
    watch.say(summary)
    if not summary.ranks:
        reason = next((trial.reason for trial in reversed(summary.trials) if trial.reason), "no reason stored")
        raise TrialsFailedError(f"every trial failed, the last one so: {reason}")
    return summary


def run_confirmation(
    config: StudyFile, *, storage: str, seeds: int | None, console: Console
) -> tuple[Confirmed, StudySummary]:
    """Runs every tuned rank's frozen configuration on fresh seeds, or goes on with that.

    Args:
        config: The study, as it was read.
        storage: Where its search is stored, a SQLAlchemy URL.
        seeds: A rank in all; None for what the study declares.
        console: Where progress is shown, what is about to run, and what that can show.

    Returns:
        What it has come to, and the search that it rests on.

    Raises:
        NothingToConfirmError: where the search has tuned fewer than two ranks.
        TrialsFailedError: where no trial gets through, or a fault stops the study.
        SweepError: where it cannot be run as it stands.
    """
    check(config)
    opened = open_storage(storage, create=False, curves=False)
    searched = open_study(opened, config.study.name)
    config, schema = as_declared(searched, config), schema_of(searched)
    config = settle(config, searched)
    match_study(searched, config)
    if note := declared_note(searched):
        console.print(note, markup=False)
    summary = summarize(searched)
    search = freeze(summary, config)
    seeds = seeds or config.verdict.seeds
    name = confirmation_name(config.study.name, generation_of(searched))
    with open_to_run(config, opened, name=name, schema=schema) as run:
        search = store_frozen(run.study, search)
        if len(search.frozen) < 2:
            alone = " and ".join(f"r={rank.r}" for rank in search.frozen) or "none"
            raise NothingToConfirmError(f"confirm compares ranks, and this search has tuned {alone} alone")
        ended, rule = len(ended_trials(run.study)), rule_of(config, schema)
        for line in plan_lines(search, config, summary, rule=rule, seeds=seeds, ended=ended):
            console.print(line, markup=False)
        run.supervise(
            ConfirmSchedule(config, search.frozen, seeds=seeds, first=first_seed(searched)),
            progress=make_progress(console),
        )
        count_look(run.study, seeds)
        confirmed = read_confirmation(run.study, config)
    if confirmed is None:
        raise TrialsFailedError(f"every confirmation trial failed; their logs say why: {run.logs}")
    return confirmed, summary


def _settled(config: StudyFile) -> Iterator[str]:
    """What a reader might not expect of how the study is run here."""
    asked, given = config.model.max_lora_rank, config.engine_max_lora_rank
    if given != asked:
        yield (
            f"max_lora_rank {asked} is rounded up to {given} for the engine: vLLM permits no value between. The search "
            "stays at or below what you asked for."
        )
    if config.learner.name == "packed":
        at_once = "1 trial at a time" if config.learner.slots == 1 else f"{config.learner.slots} trials at once"
        yield f"packed: {at_once}; `sweep plan` says why"
    if warning := pruner_warning(config.search.pruner):
        yield warning
