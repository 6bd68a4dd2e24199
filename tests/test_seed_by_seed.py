"""A confirmation that adds seeds one by one: what is judged, who goes on, and what an interruption leaves."""

import random
from dataclasses import asdict

import optuna
import pytest

from sweep.confirmation.naming import confirmation_name
from sweep.confirmation.outcome import freeze, read_confirmation, store_frozen, stored_frozen
from sweep.confirmation.schedule import ConfirmSchedule, SeedBySeed
from sweep.errors import UsageError
from sweep.plots.paths import paths_figure, paths_info
from sweep.storage import attributes
from sweep.storage.attributes import SEED
from sweep.storage.database import create_or_match_study, match_study, open_storage
from sweep.storage.schema import CURRENT, as_declared, rule_of, stored_critical
from sweep.storage.summary import summarize
from sweep.study.reading import load_study
from sweep.terminal.looks import look_lines
from tests.support.command import sweep
from tests.test_confirm import POINTS, noisy
from tests.test_confirm import run as run_fixed
from tests.test_plots import BASE, STORED, stored_study

OVERRIDES = ["search.points_per_rank=2", "space.r=[1, 4, 16]", "space.learning_rate=[1e-3, 2e-3, 4e-3]"]
FIRST = 1_000_000


@pytest.fixture
def config():
    return load_study("tiny", OVERRIDES)


@pytest.fixture
def confirmation(config, tmp_path):
    searched = stored_study(tmp_path, points=POINTS)
    storage = open_storage(f"sqlite:///{tmp_path}/rank-sweep.db", create=False)
    study = create_or_match_study(storage, config, optuna.samplers.RandomSampler(), name=confirmation_name("tiny"))
    store_frozen(study, freeze(summarize(searched), config))
    return study


def schedule_of(study, config, *, seeds=None, told=None):
    rule = rule_of(config, CURRENT)
    study.set_user_attr(attributes.CRITICAL, stored_critical(rule))
    tell = (lambda now: told.append(look_lines(now, rule))) if told is not None else lambda now: None
    schedule = SeedBySeed(config, stored_frozen(study), rule, seeds=seeds or config.verdict.seeds, tell=tell)
    schedule.queue(study)
    return schedule


def end(study, trial, value):
    """Stores a trial with its score; 0 is a collapse, None a failure."""
    if value is None:
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
        return
    scores = [{"sampled": value, "greedy": value, "prompts": 100, "unscored": 0, "step": step} for step in (20, 40, 80)]
    trial.set_user_attr(attributes.SCORES, scores)
    trial.set_user_attr(attributes.BASE, asdict(BASE))
    trial.set_user_attr(attributes.COLLAPSED, value == 0)
    study.tell(trial, value)


def run(study, schedule, score=noisy, *, at_once=1, ends=lambda running: len(running) - 1):
    """Runs a schedule to its end with so many trials at a time; `ends` picks the next to end, by default the newest."""
    running = []
    while True:
        while len(running) < at_once and (trial := schedule.next_trial(study)) is not None:
            running.append(trial)
        if not running:
            return
        trial = running.pop(ends(running))
        end(study, trial, score(trial.params["r"], trial.user_attrs[SEED] % 1000))
        schedule.look(study)


def ran(study):
    return sorted((trial.user_attrs[SEED] - FIRST, trial.params["r"]) for trial in study.trials)


def test_it_stops_when_the_verdict_is_settled_and_says_where_every_rank_stands(confirmation, config):
    told = []
    schedule = schedule_of(confirmation, config, told=told)
    run(confirmation, schedule)
    confirmed = read_confirmation(confirmation, config)
    assert (confirmed.verdict.r, confirmed.seeds) == (4, 8)
    assert confirmed.ending == "Settled after 8 of at most 14 seeds."
    assert schedule.trials == len(confirmation.trials) < 8 * 3
    assert not any(rank == 1 and seed > 6 for seed, rank in ran(confirmation)), "it was shown to be too low"
    assert told[-1].startswith("after 8 seeds:\n  r=1    shown to be too low, against r=16\n  r=4    passes")
    assert "passes above" in "".join(told)


@pytest.mark.parametrize("at_once", [2, 4, 7])
def test_more_slots_change_nothing_but_what_is_run_for_nothing(confirmation, config, at_once):
    run(confirmation, schedule_of(confirmation, config), at_once=at_once)
    confirmed = read_confirmation(confirmation, config)
    assert (confirmed.verdict.r, confirmed.seeds) == (4, 8)
    ranks = {rank.r: rank.n_seeds for rank in confirmed.verdict.per_rank}
    assert ranks[4] == ranks[16] == 8
    assert ranks[1] < 8


def now_and_then(r, k):
    """A rank that learns as well as any, and collapses in two seeds of the first eight."""
    return 0.0 if r == 16 and k in {1, 5} else noisy(r, k)


@pytest.mark.parametrize("order", range(4))
def test_what_collapses_ends_first_on_many_workers_and_the_verdict_is_the_same(confirmation, config, tmp_path, order):
    draw = random.Random(order)

    def ends(running):
        scores = [now_and_then(trial.params["r"], trial.user_attrs[SEED] % 1000) for trial in running]
        return scores.index(0.0) if 0.0 in scores else draw.randrange(len(running))

    run(confirmation, schedule_of(confirmation, config), now_and_then, at_once=6, ends=ends)
    unordered = read_confirmation(confirmation, config)
    fresh = create_or_match_study(
        open_storage(f"sqlite:///{tmp_path}/in-order.db", create=True), config, optuna.samplers.RandomSampler(),
        name=confirmation_name("tiny"),
    )  # fmt: skip
    store_frozen(fresh, stored_frozen(confirmation))
    run(fresh, schedule_of(fresh, config), now_and_then)
    in_order = read_confirmation(fresh, config)
    assert (unordered.verdict, unordered.seeds) == (in_order.verdict, in_order.seeds)
    assert any(rank.collapsed for rank in in_order.verdict.per_rank)


def test_seeds_behind_one_that_is_missing_are_not_judged(confirmation, config):
    schedule = schedule_of(confirmation, config)
    trials = [schedule.next_trial(confirmation) for _ in range(9)]
    for trial in trials[1:]:
        end(confirmation, trial, noisy(trial.params["r"], trial.user_attrs[SEED] % 1000))
    assert read_confirmation(confirmation, config) is None
    end(confirmation, trials[0], 0.42)
    assert read_confirmation(confirmation, config).seeds == 3


def test_an_interruption_changes_nothing(confirmation, config):
    run(confirmation, schedule_of(confirmation, config, seeds=4))
    assert read_confirmation(confirmation, config).seeds == 4
    before = ran(confirmation)
    run(confirmation, schedule_of(confirmation, config))
    assert ran(confirmation)[: len(before)] == before
    assert len(set(ran(confirmation))) == len(confirmation.trials)
    assert read_confirmation(confirmation, config).seeds == 8


def test_a_trial_that_fails_holds_nothing_up_and_is_run_again_by_the_next_command(confirmation, config):
    def failing(r, k):
        return None if (r, k) == (16, 1) else noisy(r, k)

    run(confirmation, schedule_of(confirmation, config, seeds=5), failing)
    first = read_confirmation(confirmation, config)
    assert "confirmation trials failed and are missing here; `sweep confirm` runs them again" in first.warnings[0]
    before = len(confirmation.trials)
    run(confirmation, schedule_of(confirmation, config, seeds=5))
    assert len(confirmation.trials) == before + 1
    assert read_confirmation(confirmation, config).warnings == ()


def test_a_rank_that_collapses_leaves_and_the_others_are_judged_without_it(confirmation, config):
    run(confirmation, schedule_of(confirmation, config), lambda r, k: 0.0 if r == 16 else noisy(r, k))
    confirmed = read_confirmation(confirmation, config)
    assert confirmed.verdict.r == 4
    assert "r=16 is not compared: it collapsed in 8 of 8 seeds" in confirmed.verdict.reason


def test_what_learns_nothing_is_given_up_early(confirmation, config):
    run(confirmation, schedule_of(confirmation, config), lambda r, k: 0.25 + 0.01 * ((k * 7 + r * 3) % 5 - 2))
    confirmed = read_confirmation(confirmation, config)
    assert confirmed.verdict.outcome.value == "nothing_learned"
    assert confirmed.seeds < 8
    assert confirmed.ending.startswith("Given up after")


def test_more_seeds_than_the_cap_are_refused_in_one_line(tmp_path):
    declared = ["verdict.design=sequential", "verdict.seeds=14", "verdict.looks=1"]
    stored_study(tmp_path, points=POINTS, more=declared)
    same = [word for setting in [*STORED, *declared] for word in ("--set", setting)]
    done = sweep("confirm", "tiny", *same, "--seeds", 20, cwd=tmp_path)
    assert (done.returncode, len(done.stderr.splitlines())) == (UsageError.exit_code, 1), done.stderr
    assert "--seeds 20; allowed: at most verdict.seeds=14, the cap that was declared" in done.stderr


def test_looks_that_are_declared_mean_all_seeds_are_run():
    assert load_study("tiny", ["verdict.looks=3"]).verdict.design == "fixed"
    assert load_study("tiny", ["verdict.design=fixed"]).verdict.seeds == 10
    assert load_study("tiny", []).verdict.seeds == 14


def test_a_study_from_before_goes_on_as_it_was_declared(tmp_path):
    searched = stored_study(tmp_path, points=POINTS)
    declared = as_declared(searched, load_study("tiny", [o for o in STORED if "design" not in o]))
    assert (declared.verdict.design, declared.verdict.looks, declared.verdict.seeds) == ("fixed", 2, 10)
    match_study(searched, declared)


def test_the_report_draws_every_pair_against_its_boundary(confirmation, config, tmp_path):
    run(confirmation, schedule_of(confirmation, config))
    info = paths_info(read_confirmation(confirmation, config))
    paths = {(pair.r, pair.rival): pair for pair in info.pairs}
    assert paths.keys() == {(r, rival) for r in (1, 4, 16) for rival in (1, 4, 16) if r != rival}
    assert paths[4, 16].seeds == (3, 4, 5, 6, 7, 8)
    assert max(paths[4, 16].shares) > 1
    assert min(paths[1, 16].shares) < -1
    assert len(paths_figure(info).data) == 6


def test_a_fixed_design_has_no_paths(tmp_path):
    declared = load_study("tiny", [*OVERRIDES, "verdict.design=fixed"])
    searched = stored_study(tmp_path, points=POINTS)
    storage = open_storage(f"sqlite:///{tmp_path}/rank-sweep.db", create=False)
    study = create_or_match_study(storage, declared, optuna.samplers.RandomSampler(), name=confirmation_name("tiny"))
    store_frozen(study, freeze(summarize(searched), declared))
    run_fixed(study, declared, ConfirmSchedule(declared, stored_frozen(study).frozen, seeds=10), noisy)
    assert paths_info(read_confirmation(study, declared)) is None


def test_what_changes_nothing_at_all_is_given_up_as_nothing_learned(confirmation, config):
    run(confirmation, schedule_of(confirmation, config), lambda r, k: BASE.sampled)
    confirmed = read_confirmation(confirmation, config)
    assert (confirmed.verdict.outcome.value, confirmed.seeds) == ("nothing_learned", 3)
