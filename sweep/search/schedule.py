"""Which point comes next: the design first, the same for every rank, then TPE over the same ladders."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from typing import TYPE_CHECKING

from objectives.lora import LoraSpec
from objectives.trial.messages import HeldOutScore, TrialSpec
from sweep.search.design import Key, design, point_key
from sweep.storage.attributes import ADDED, ALPHA, DESIGN, DROPPED, REASON, REDONE, SEED
from sweep.storage.ladders import earlier_ladders
from sweep.storage.optuna_internals import set_attribute
from sweep.study.file import StudyFile
from sweep.study.space import Point, SearchSpace, alpha_of

if TYPE_CHECKING:
    import optuna


class SearchSchedule:
    """The search: the design, then whatever the study's sampler proposes."""

    def __init__(self, config: StudyFile) -> None:
        self._config = config
        self.trials = config.search.trials
        self.score_after: tuple[int, ...] = ()
        self._design: deque[Point] = deque()
        self._points = PointCount()

    def queue(self, study: optuna.Study) -> None:
        """See `TrialSchedule.queue`. Points join Optuna's queue one by one: lost trials come before the rest."""
        self._design = deque(missing_design(study, self._config))

    def next_trial(self, study: optuna.Study) -> optuna.Trial:
        """See `TrialSchedule.next_trial`."""
        if self._design and not waiting_trials(study):
            point = self._design.popleft()
            study.enqueue_trial(point, user_attrs={DESIGN: True, SEED: self._config.study.seed})
        return next_trial(study, self._config, self._points)

    def needs(self, spec: TrialSpec) -> bool:
        """See `TrialSchedule.needs`."""
        return True


class PointCount:
    """How many trials of a study hold each point. One that has ended is looked at once: it never changes again."""

    def __init__(self) -> None:
        self._ended: Counter[Key] = Counter()
        self._until = 0

    def others(self, study: optuna.Study, trial: optuna.Trial) -> int:
        """How many trials but this one hold its point. A failed one that was queued again counts once."""
        trials, point = study.get_trials(deepcopy=False), point_key(trial.params)
        while self._until < len(trials) and trials[self._until].state.is_finished():
            ended = trials[self._until]
            self._ended[point_key(_queued_point(ended))] += REDONE not in ended.user_attrs
            self._until += 1
        return self._ended[point] + sum(
            point_key(_queued_point(other)) == point
            for other in trials[self._until :]
            if other.number != trial.number and REDONE not in other.user_attrs
        )


def make_sampler(*, design_size: int, seed: int) -> optuna.samplers.BaseSampler:
    """TPE over the ladders jointly, from when the design has been run.

    Optuna 5.0 takes a ladder as a set of unordered choices: it learns from each rung by itself.
    """
    import optuna

    return optuna.samplers.TPESampler(n_startup_trials=design_size, multivariate=True, seed=seed)


def distributions(space: SearchSpace) -> dict[str, optuna.distributions.BaseDistribution]:
    """The ladders as Optuna knows them."""
    from optuna.distributions import CategoricalDistribution

    return {name: CategoricalDistribution(ladder) for name, ladder in space.ladders.items()}


def missing_design(
    study: optuna.Study, config: StudyFile, trials: Iterable[optuna.trial.FrozenTrial] | None = None
) -> list[Point]:
    """The points of the design that the study does not hold yet.

    Args:
        study: The study.
        config: As it is declared.
        trials: The study's, where they have been read already.
    """
    stored = study.get_trials(deepcopy=False) if trials is None else trials
    held = {point_key(_queued_point(trial)) for trial in stored if DESIGN in trial.user_attrs}
    earlier = earlier_ladders(study)
    if not earlier and len(held) >= config.design_size:
        return []  # without drawing it again: what draws it takes a second to load
    return [point for point in design(config, earlier) if point_key(point) not in held]


def ended_trials(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """Trials that count towards the study's number: finished, pruned, or failed for good."""
    from optuna.trial import TrialState

    ended = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
    return [trial for trial in study.get_trials(deepcopy=False, states=ended) if REDONE not in trial.user_attrs]


def waiting_trials(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """Trials that are queued."""
    from optuna.trial import TrialState

    return study.get_trials(deepcopy=False, states=(TrialState.WAITING,))


def queue_again(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
    """Queues the point of a trial that was lost through no fault of its own, seed and all."""
    keep = {key: trial.user_attrs[key] for key in (DESIGN, SEED, ADDED) if key in trial.user_attrs}
    point = _queued_point(trial)
    # Whoever was killed between queueing the point and marking the trial has queued it already.
    waits = any(
        _queued_point(other) == point and other.user_attrs.get(SEED) == keep.get(SEED)
        for other in waiting_trials(study)
    )
    if point and not waits:
        study.enqueue_trial(point, user_attrs=keep)


def record_failure(study: optuna.Study, number: int, reason: str, *, again: bool) -> bool:
    """Stores a running trial as failed; with `again`, its point is queued first, if anybody wants it.

    Returns:
        Whether it was.
    """
    from optuna.trial import TrialState

    trial = study.get_trials(deepcopy=False)[number]
    set_attribute(study, trial, REASON, reason)
    again = again and DROPPED not in trial.user_attrs
    if again:
        # Queued first and told last: whoever is killed in between leaves a running trial, which is found and done over.
        queue_again(study, trial)
        set_attribute(study, trial, REDONE, True)
    study.tell(number, state=TrialState.FAIL)
    return again


def next_trial(study: optuna.Study, config: StudyFile, points: PointCount) -> optuna.Trial:
    """Asks for a trial and gives it its seed, so that no (point, seed) comes twice."""
    trial = ask(study, config)
    if SEED not in trial.user_attrs:
        trial.set_user_attr(SEED, config.study.seed + points.others(study, trial))
    return trial


def ask(study: optuna.Study, config: StudyFile) -> optuna.Trial:
    """Asks Optuna for a trial. Where alpha is searched in multiples of r, what it comes to is stored with the trial."""
    trial = study.ask(distributions(config.search_space()))
    if config.space.alpha_per_r is not None:
        trial.set_user_attr(ALPHA, alpha_of(trial.params))
    return trial


def trial_spec(
    trial: optuna.Trial, config: StudyFile, *, score_after: tuple[int, ...] = (), base: HeldOutScore | None = None
) -> TrialSpec:
    """What a worker is told of a trial.

    Args:
        trial: As it was asked for.
        config: The study.
        score_after: Steps at which it is scored besides its last.
        base: The base policy's score under its seed, where it is known.
    """
    params = trial.params
    return TrialSpec(
        number=trial.number,
        lora=None
        if "r" not in params
        else LoraSpec(
            r=params["r"],
            alpha=alpha_of(params) or 0,
            target_modules=config.modules_of(params.get("target_modules")),
            dropout=config.model.lora_dropout,
            use_rslora=params.get("use_rslora", config.space.use_rslora[0]),
        ),
        learning_rate=params["learning_rate"],
        target_set=params.get("target_modules", ""),
        seed=trial.user_attrs[SEED],
        score_after=score_after,
        base=base,
    )


def _queued_point(trial: optuna.trial.FrozenTrial) -> Point:
    """A trial's point, whether it has been asked for or still waits in the queue."""
    # A trial that was lost while it was being asked for has some of its parameters, and all that it was queued with.
    return trial.system_attrs.get("fixed_params") or trial.params
