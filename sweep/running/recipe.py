"""How a study is run, from its file to what is stored: the one way, for the command line, notebooks and benchmarks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import optuna
from rich.console import Console

from objectives.trial.checkpoint_file import take_over
from objectives.trial.preview import Preview
from sweep.answer.evaluation_noise import noise_sentence
from sweep.answer.learning import DesignWatch
from sweep.confirmation.horizon import lengthened
from sweep.confirmation.naming import confirmation_name, first_seed, generation_of, horizon_name
from sweep.confirmation.outcome import Confirmed, count_look, freeze, read_confirmation, store_frozen
from sweep.confirmation.schedule import ConfirmSchedule, SeedBySeed
from sweep.confirmation.seed_by_seed import Progress
from sweep.early_stopping.pruner import make_pruner
from sweep.errors import NothingToConfirmError, TrialsFailedError, UsageError
from sweep.live_display.display import make_progress
from sweep.planning.notes import design_note
from sweep.planning.pack import sized_pack
from sweep.planning.verdict import plan_verdict
from sweep.preflight.checks import check_generator, check_study
from sweep.preflight.model import check_weights
from sweep.preflight.number_format import settle_dtype, with_dtype
from sweep.preflight.placement import device_here
from sweep.preflight.prompts import PromptPlan
from sweep.running.open_study import open_to_run
from sweep.running.reward_preview import Signal, check_reward, judge_signal
from sweep.running.where import check_workers, worker_device
from sweep.search.schedule import SearchSchedule, ended_trials, make_sampler
from sweep.storage.attributes import CRITICAL
from sweep.storage.database import log_folder, match_study, open_storage, open_study, stored_study
from sweep.storage.schema import as_declared, declared_note, rule_of, schema_of, stored_critical
from sweep.storage.summary import StudySummary, summarize
from sweep.study.file import StudyFile
from sweep.study.pruners import pruner_warning
from sweep.terminal.looks import look_lines
from sweep.terminal.verdict import plan_lines


def check(config: StudyFile) -> PromptPlan | None:
    """Checks everything that a study names, and this machine. See `check_study` for what it gives back.

    Raises:
        StudyFileError: naming the first thing that is wrong.
    """
    prompts = check_study(config)
    check_weights(config.model.name, config.model.path)
    check_workers(config)
    check_generator(config)
    return prompts


def settle(config: StudyFile, stored: optuna.Study | None) -> StudyFile:
    """The study with what was left open settled for this machine: its number format and the size of a pack.

    Raises:
        StudyMismatchError: where it was begun in a number format that this machine does not compute in.
    """
    device = worker_device(config)
    return sized_pack(settle_dtype(config, stored, device), device)


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
    # Kept are the checkpoints of a confirmation, whose trials are those that one would go on with.
    config = config.model_copy(update={"run": config.run.model_copy(update={"keep_checkpoints": False})})
    opened = open_storage(storage, create=True, curves=False)
    config = settle(config, stored_study(opened, config.study.name))
    for note in _settled(config):
        console.print(note, markup=False, highlight=False)
    sampler = make_sampler(design_size=config.design_size, seed=config.study.seed)
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
    config: StudyFile, *, storage: str, seeds: int | None, console: Console, steps: int | None = None
) -> tuple[Confirmed, StudySummary]:
    """Runs every tuned rank's frozen configuration on fresh seeds, or goes on with that.

    Args:
        config: The study, as it was read.
        storage: Where its search is stored, a SQLAlchemy URL.
        seeds: A rank in all; None for what the study declares.
        console: Where progress is shown, what is about to run, and what that can show.
        steps: A longer horizon than the study's own, stored apart; trials go on from kept checkpoints.

    Returns:
        What it has come to, and the search that it rests on.

    Raises:
        NothingToConfirmError: where the search has tuned fewer than two ranks, or nothing is there to go on with.
        TrialsFailedError: where no trial gets through, or a fault stops the study.
        SweepError: where it cannot be run as it stands.
    """
    check(config)
    opened = open_storage(storage, create=False, curves=False)
    searched = open_study(opened, config.study.name)
    # An older study goes on under the rule that it declared, whatever its file says by today's defaults.
    config, schema = as_declared(searched, config), schema_of(searched)
    config = settle(config, searched)
    # A confirmation under other settings than its search's would confirm something nobody searched.
    match_study(searched, config)
    if note := declared_note(searched):
        console.print(note, markup=False)
    summary = summarize(searched)
    search = freeze(summary, config)
    seeds = _seeds_asked(config, seeds)
    name = confirmation_name(config.study.name, generation_of(searched))
    if steps is not None:
        config, search = lengthened(config, searched, steps)
        earlier, name = log_folder(opened.url, name), horizon_name(name, steps)
    with open_to_run(config, opened, name=name, schema=schema) as run:
        # From here on what is stored counts: trials of an earlier run rest on it.
        search = store_frozen(run.study, search)
        if len(search.frozen) < 2:
            alone = " and ".join(f"r={rank.r}" for rank in search.frozen) or "none"
            raise NothingToConfirmError(f"confirm compares ranks, and this search has tuned only {alone}")
        if steps is not None:
            take_over(run.logs, earlier)
        ended = len(ended_trials(run.study))
        rule = rule_of(config, schema, critical=run.study.user_attrs.get(CRITICAL, ()))
        for line in plan_lines(search, config, summary, rule=rule, seeds=seeds, ended=ended):
            console.print(line, markup=False)
        if noise := noise_sentence(searched, summary.base, search.noise_sd):
            console.print(noise, markup=False)
        progress, first = make_progress(console), first_seed(searched)
        if rule.cap is None:
            run.supervise(ConfirmSchedule(config, search.frozen, seeds=seeds, first=first), progress=progress)
            # Before it is read: the verdict is over the seeds of looks that were counted.
            count_look(run.study, seeds)
        else:
            run.study.set_user_attr(CRITICAL, stored_critical(rule))

            def tell(now: Progress) -> None:
                if told := look_lines(now, rule):
                    progress.note(told)

            schedule = SeedBySeed(config, search, rule, seeds=seeds, first=first, tell=tell)
            run.supervise(schedule, progress=progress, after_trial=lambda: schedule.look(run.study))
        confirmed = read_confirmation(run.study, config)
    if confirmed is None:
        raise TrialsFailedError(f"every confirmation trial failed; their logs say why: {run.logs}")
    return confirmed, summary


def _seeds_asked(config: StudyFile, seeds: int | None) -> int:
    """Seeds a rank, at most.

    Raises:
        UsageError: where more are asked for than a verdict that adds them one by one has declared.
    """
    verdict = config.verdict
    if seeds is not None and verdict.design == "sequential" and seeds > verdict.seeds:
        raise UsageError(
            f"--seeds {seeds}; allowed: at most verdict.seeds={verdict.seeds}, the cap that was declared; "
            "verdict.design = 'fixed' in a study of its own lets you add seeds"
        )
    return seeds or verdict.seeds


def _settled(config: StudyFile) -> Iterator[str]:
    """What a reader might not expect of how the study is run here."""
    asked, given = config.model.max_lora_rank, config.engine_max_lora_rank
    if given != asked:
        yield (
            f"max_lora_rank {asked} is rounded up to {given} for the engine: vLLM allows no value in between. The "
            "search stays at or below what you asked for."
        )
    if config.learner.name == "packed":
        at_once = "1 trial at a time" if config.learner.slots == 1 else f"{config.learner.slots} trials at once"
        yield f"packed: {at_once}; `sweep plan` says why"
    # Sets multiply the design beyond what whoever counted ranks alone left room for.
    if config.space.target_modules is not None and (note := design_note(config)):
        yield note
    if warning := pruner_warning(config.search.pruner):
        yield warning
