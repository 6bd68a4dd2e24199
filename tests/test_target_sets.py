"""Target modules as a ladder: searched beside r, stored, shown with what they cost, frozen, confirmed and exported."""

import itertools
import json
import sqlite3
from collections import Counter, defaultdict
from contextlib import closing
from dataclasses import replace

import pytest

from objectives.lora import ATTENTION, TARGET_MODULES, modules_of
from objectives.memory.exact import trainer_memory
from sweep.answer.paste import paste_calls
from sweep.answer.target_sets import target_set_results
from sweep.cli.add import read_point
from sweep.confirmation.outcome import freeze, store_frozen
from sweep.confirmation.schedule import ConfirmSchedule
from sweep.errors import StudyFileError
from sweep.planning.memory import plan_memory
from sweep.running import recipe
from sweep.running.copy import copy_study
from sweep.running.extend import extend_study
from sweep.running.recipe import settle
from sweep.search.design import design
from sweep.search.schedule import missing_design, trial_spec
from sweep.storage.attributes import FROZEN
from sweep.storage.database import create_or_match_study, open_storage, open_study
from sweep.storage.summary import summarize, summarize_ranks
from sweep.study.reading import load_study
from tests.support.command import SMALL, sweep
from tests.support.scripted_worker import ScriptedWorker

SETTINGS = [
    "space.r=[4, 16]", "space.alpha=[16, 32]", "space.learning_rate=[1e-3, 2e-3, 4e-3]", "search.points_per_rank=3",
    "budget.steps=4",
]  # fmt: skip
SETS = ["attention", "mlp", "all"]
SEARCHED = [*SETTINGS, 'space.target_modules=["attention", "mlp", "all"]', "search.trials=18"]


@pytest.fixture
def config():
    return load_study("tiny", SEARCHED)


def planted(spec, step):
    """Attention is best at rank 4 and all of it at rank 16, both at the middle rate."""
    best = {4: ATTENTION, 16: TARGET_MODULES}[spec.lora.r]
    return 0.4 + 0.1 * (spec.lora.target_modules == best) + 0.05 * (spec.learning_rate == 2e-3) + step / 1000


@pytest.fixture
def searched(config, supervise):
    return supervise(config, ScriptedWorker(planted))


def as_options(settings):
    return [word for each in settings for word in ("--set", each)]


def stored(tmp_path):
    return open_study(open_storage(f"sqlite:///{tmp_path}/rank-sweep.db", create=False), "tiny")


def test_every_rank_gets_the_same_points_with_every_set(config):
    rows = defaultdict(list)
    points = design(config)
    assert len(points) == config.design_size == 3 * 2 * 3
    for point in points:
        rows[point["r"], point["target_modules"]].append((point["alpha"], point["learning_rate"]))
    assert rows.keys() == {(r, name) for r in (4, 16) for name in SETS}
    assert len({tuple(own) for own in rows.values()}) == 1
    assert len(set(rows[4, "mlp"])) == 3
    without = design(load_study("tiny", SETTINGS))
    assert [(p["alpha"], p["learning_rate"]) for p in without if p["r"] == 4] == rows[4, "mlp"]


@pytest.mark.parametrize(
    ("overrides", "why"),
    [
        (["space.target_modules=[]"], "must hold one set or more"),
        (
            ['space.target_modules="all"'],
            'must be a list of sets, as ["attention", "mlp", "all"] (given: ' + "'all')",
        ),
        (["space.target_modules=3"], "must be a list of sets"),
        (['space.target_modules=["q proj"]'], "'q proj' names no modules; allowed: attention, mlp, all"),
        (['space.target_modules=["all", "mlp+attention"]'], "'all' and 'mlp+attention' are the same modules"),
        (
            ['space.target_modules=["attention", ["q_proj", "k_proj", "v_proj", "o_proj"]]'],
            "'attention' and 'q_proj+k_proj+v_proj+o_proj' are the same modules",
        ),
        (
            ['space.target_modules=["all"]', 'model.target_modules=["q_proj"]'],
            "space.target_modules is searched instead of model.target_modules; give one of them",
        ),
        (['space.target_modules=["mlp"]', "search.points_per_rank=7"], "exceeds the 6 combinations"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(overrides, why):
    with pytest.raises(StudyFileError) as refusal:
        load_study("tiny", [*SETTINGS, *overrides])
    assert why in str(refusal.value)


def test_a_module_that_the_model_lacks_is_refused_before_anything_loads(tmp_path):
    done = sweep("run", "tiny", "--set", 'space.target_modules=["all", ["c_attn"]]', cwd=tmp_path)
    assert done.returncode == 2
    assert "target module 'c_attn' is not in a llama model" in done.stderr


def test_the_engine_has_room_for_every_module_that_any_trial_adapts(tmp_path):
    some = load_study("tiny", [*SETTINGS, 'space.target_modules=["q_proj", ["v_proj", "o_proj"]]'])
    assert some.target_modules == ("q_proj", "v_proj", "o_proj")
    assert some.worker_settings(tmp_path).model.target_modules == ("q_proj", "v_proj", "o_proj")
    plain = load_study("tiny", SETTINGS)
    assert plain.worker_settings(tmp_path).model.target_modules == plain.model.target_modules == TARGET_MODULES


def test_trials_are_stored_told_frozen_and_confirmed_with_their_modules(config, searched, tmp_path):
    sets = Counter(trial.params["target_modules"] for trial in searched.trials)
    assert sets == dict.fromkeys(SETS, 6)
    for trial in searched.trials:
        spec = trial_spec(trial, config)
        assert spec.lora.target_modules == modules_of(trial.params["target_modules"])
        assert spec.target_set == trial.params["target_modules"]
    summary = summarize(searched)
    assert all(rank.tuned for rank in summary.ranks)
    search = freeze(summary, config)
    assert [(f.r, f.target_modules, f.learning_rate) for f in search.frozen] == [
        (4, "attention", 2e-3),
        (16, "all", 2e-3),
    ]

    storage = open_storage(f"sqlite:///{tmp_path}/rank-sweep.db", create=False)
    confirmation = create_or_match_study(storage, config, searched.sampler, name="tiny.confirm")
    assert store_frozen(confirmation, search) == search
    schedule = ConfirmSchedule(config, search.frozen, seeds=2)
    schedule.queue(confirmation)
    asked = [schedule.next_trial(confirmation) for _ in range(4)]
    assert [(t.params["r"], t.params["target_modules"]) for t in asked] == [(4, "attention"), (16, "all")] * 2
    told = paste_calls(config, r=4, alpha=16, target_modules="attention")
    assert 'target_modules=["q_proj", "k_proj", "v_proj", "o_proj"],' in told


def test_a_rank_that_lacks_points_with_a_set_is_not_tuned(config, supervise):
    short = config.model_copy(update={"search": config.search.model_copy(update={"trials": 17})})
    summary = summarize(supervise(short, ScriptedWorker(planted)))
    assert sorted(rank.tuned for rank in summary.ranks) == [False, True]
    [lacking] = freeze(summary, short).untuned
    assert lacking.n_points == 8
    assert lacking.reason.startswith("not tuned: 2 of 3 search points with ")


def test_points_with_one_set_do_not_stand_for_those_with_another(config, supervise):
    """More points than the design has, all with two of the three sets."""
    summary = summarize(supervise(config, ScriptedWorker(planted)))
    like = summary.trials[0]
    grid = itertools.product((16, 32), (1e-3, 2e-3, 4e-3), ("attention", "mlp"))
    trials = tuple(trial for trial in summary.trials if trial.r == 16) + tuple(
        replace(like, r=4, alpha=alpha, learning_rate=rate, target_modules=name) for alpha, rate, name in grid
    )
    ranks = summarize_ranks(trials, points_per_rank=3, sets=config.space.target_modules)
    assert [rank.tuned for rank in ranks] == [False, True]
    search = freeze(replace(summary, trials=trials), config)
    assert [f.r for f in search.frozen] == [16]
    found = [(rank.r, rank.n_points, rank.reason) for rank in search.untuned]
    assert found == [(4, 12, "not tuned: 0 of 3 search points with all")]


def test_a_study_that_searches_no_sets_is_stored_as_before(supervise, tmp_path):
    config = load_study("tiny", [*SETTINGS, "search.trials=6"])
    study = supervise(config, ScriptedWorker(lambda spec, step: 0.5 + step / 1000))
    assert all(trial.params.keys() == {"r", "alpha", "learning_rate"} for trial in study.trials)
    assert {trial_spec(trial, config).target_set for trial in study.trials} == {""}
    storage = open_storage(f"sqlite:///{tmp_path}/rank-sweep.db", create=False)
    confirmation = create_or_match_study(storage, config, study.sampler, name="tiny.confirm")
    store_frozen(confirmation, freeze(summarize(study), config))
    assert confirmation.user_attrs[FROZEN]["frozen"][0].keys() == {
        "r", "alpha", "learning_rate", "smoothed", "search_mean", "n_search_trials",
    }  # fmt: skip
    shown = json.loads(sweep("show", "tiny", "--json", cwd=tmp_path).stdout)
    assert not {"target_modules", "use_rslora", "adapter_parameters"} & shown["trials"][0].keys()
    assert "modules" not in sweep("show", "tiny", cwd=tmp_path).stdout + sweep("trials", "tiny", cwd=tmp_path).stdout


def test_an_extended_study_gives_a_new_set_the_points_of_the_others(searched, tmp_path):
    longer = load_study("tiny", [*SETTINGS, 'space.target_modules=["attention", "mlp", "all", "q_proj+v_proj"]'])
    extension = extend_study(longer, storage=f"sqlite:///{tmp_path}/rank-sweep.db", dry_run=False)
    assert extension.gained == {"target_modules": ("q_proj+v_proj",)}
    assert extension.new_points == 6
    study = stored(tmp_path)
    assert [t.params for t in study.trials] == [t.params for t in searched.trials]
    missing = missing_design(study, extension.config)
    assert {point["target_modules"] for point in missing} == {"q_proj+v_proj"}
    rows = {(point["alpha"], point["learning_rate"]) for point in missing}
    assert rows == {(t.params["alpha"], t.params["learning_rate"]) for t in study.trials}


def test_a_point_that_is_added_by_hand_names_its_set(config, searched, tmp_path):
    point = ["r=4", "alpha=16", "learning_rate=0.001"]
    assert read_point([*point, "target_modules=mlp"], config.search_space())["target_modules"] == "mlp"
    done = sweep("add", "tiny", *point, "target_modules=all", cwd=tmp_path)
    assert "r=4 alpha=16 learning_rate=0.001 target_modules=all" in done.stdout
    wrong = sweep("add", "tiny", *point, "target_modules=q_proj", cwd=tmp_path)
    assert wrong.returncode == 2
    assert "attention, mlp, all" in wrong.stderr
    assert "a point needs target_modules too" in sweep("add", "tiny", *point, cwd=tmp_path).stderr


def test_a_copy_holds_the_sets(searched, tmp_path, console):
    copy_study(
        "tiny", storage=f"sqlite:///{tmp_path}/rank-sweep.db", to=f"sqlite:///{tmp_path}/copy.db", console=console
    )
    copied = open_study(open_storage(f"sqlite:///{tmp_path}/copy.db", create=False), "tiny")
    assert [trial.params for trial in copied.trials] == [trial.params for trial in searched.trials]
    assert summarize(copied).config.space.target_modules == tuple(SETS)


def test_a_plan_has_what_an_adapter_of_each_set_costs(config, tmp_path):
    planned = plan_memory(settle(config, None), None)
    shape = planned.model.shape
    for each in planned.target_sets:
        for r, parameters in each.parameters.items():
            assert parameters == trainer_memory(shape, r, modules_of(each.name)).parameters
    costs = {each.name: each.parameters[16] for each in planned.target_sets}
    assert costs["attention"] + costs["mlp"] == costs["all"] == planned.trainer[-1].parameters
    whole = plan_memory(settle(load_study("tiny", SETTINGS), None), None)
    assert planned.adapters.restricted == whole.adapters.restricted
    assert (planned.footprint.trainer, whole.target_sets) == (whole.footprint.trainer, ())

    def alone(*sets):
        study = load_study("tiny", [*SETTINGS, "learner.name=trl", f"space.target_modules={json.dumps(sets)}"])
        return plan_memory(settle(study, None), None)

    apart = alone("attention", "mlp")
    assert apart.adapters.restricted == alone("all").adapters.restricted
    assert apart.footprint.trainer == alone("mlp").footprint.trainer > alone("attention").footprint.trainer
    overrides = as_options(SEARCHED)
    told = " ".join(sweep("plan", "tiny", *overrides, cwd=tmp_path).stdout.split())
    assert "with each of 3 sets of modules" in told
    assert f"attention {costs['attention']:,}; mlp {costs['mlp']:,}; all {costs['all']:,}" in told
    assert sweep("plan", "tiny", *overrides, "--full", cwd=tmp_path).returncode == 0


def test_a_plan_of_a_pack_tables_what_a_slot_takes(tmp_path):
    apart = load_study("tiny", [*SETTINGS, "space.r=[4, 64]", 'space.target_modules=["attention", "mlp"]'])
    planned = plan_memory(settle(apart, None), None)
    assert planned.trainer[-1].bytes == planned.pack.per_slot.trainer, "at r=64, the ceiling that slots are padded to"
    costs = {each.name: each.parameters[64] for each in planned.target_sets}
    assert planned.trainer[-1].parameters == costs["attention"] + costs["mlp"]


def test_the_search_is_shown_set_by_set(searched, tmp_path):
    results = target_set_results(summarize(searched))
    assert [(each.name, each.n, each.best.r) for each in results] == [
        ("attention", 6, 4),
        ("mlp", 6, 4),
        ("all", 6, 16),
    ]
    shown = sweep("show", "tiny", cwd=tmp_path).stdout
    assert "by target modules" in shown
    assert max(len(line) for line in shown.splitlines() if "sweep confirm" not in line) <= 80
    assert {
        t["target_modules"] for t in json.loads(sweep("show", "tiny", "--json", cwd=tmp_path).stdout)["trials"]
    } == {*SETS}
    assert "modules" in sweep("trials", "tiny", cwd=tmp_path).stdout
    done = sweep("report", "tiny", "-o", "page.html", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "page.html").read_text()
    assert "By target modules, over all ranks: every set had the same points in the design." in page


def test_sets_are_said_to_have_had_the_same_points_only_once_they_had(config, supervise, tmp_path):
    study = supervise(config.model_copy(update={"search": config.search.model_copy(update={"trials": 17})}),
                      ScriptedWorker(planted))  # fmt: skip
    assert len(study.trials) == 17
    done = sweep("report", "tiny", "-o", "page.html", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "By target modules, over all ranks. Parameters" in (tmp_path / "page.html").read_text()


def test_a_search_too_short_for_its_sets_is_told_so_before_anything_runs(supervise, tmp_path, console, monkeypatch):
    class AboutToRun(Exception):
        pass

    def refuse(*_, **__):
        raise AboutToRun

    monkeypatch.setattr(recipe, "open_to_run", refuse)
    told = "search.trials=17 ends the search within its design of 18 (3 points x 2 ranks x 3 sets of modules)"
    for overrides, says in ((["search.trials=17"], True), ([], False)):
        with pytest.raises(AboutToRun), console.capture() as captured:
            recipe.run_search(
                load_study("tiny", [*SEARCHED, *overrides]), storage=f"sqlite:///{tmp_path}/short.db", console=console
            )
        assert (told in " ".join(captured.get().split())) is says
    assert told in " ".join(sweep("plan", "tiny", *as_options(SEARCHED), "--set", "search.trials=17",
                                  cwd=tmp_path).stdout.split())  # fmt: skip


def test_a_real_study_over_two_sets_ends_in_a_verdict_and_an_export(tmp_path):
    """Search, confirmation, report and export through the installed command, on the real policy and engine."""
    settings = [
        *SMALL, "--set", "space.r=[2, 8]", "--set", 'space.target_modules=["attention", "mlp"]',
        "--set", "search.points_per_rank=1", "--set", "search.trials=4",
        "--set", "verdict.design=fixed", "--set", "study.keep_adapters=true",
    ]  # fmt: skip
    done = sweep("run", "tiny", *settings, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    done = sweep("confirm", "tiny", *settings, "--seeds", 2, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    trials = json.loads(sweep("trials", "tiny", "--json", cwd=tmp_path).stdout)
    linears = {"attention": 2 * (2 * (128 + 128) + 2 * (128 + 64)), "mlp": 2 * 3 * (128 + 256)}
    assert len(trials) == 4 + 4
    for trial in trials:
        assert trial["adapter_parameters"] == trial["r"] * linears[trial["target_modules"]]
    confirmed = {(t["r"], t["target_modules"]) for t in trials if t["phase"] == "confirm"}
    assert len(confirmed) == 2, "each rank with one set, on every seed"
    shown = sweep("show", "tiny", cwd=tmp_path).stdout
    assert "adapter parameters" in shown
    assert all(len(line) <= 80 for line in shown.splitlines())
    assert "\N{HORIZONTAL ELLIPSIS}" not in shown + sweep("trials", "tiny", cwd=tmp_path).stdout
    number = next(t["trial"] for t in trials if t["phase"] == "search" and t["target_modules"] == "mlp")
    done = sweep("export", "tiny", "--trial", number, "-o", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    kept = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert set(kept["target_modules"]) == {"gate_proj", "up_proj", "down_proj"}
    assert 'target_modules=["gate_proj", "up_proj", "down_proj"]' in (tmp_path / "out" / "train.py").read_text()
    assert "gate_proj, up_proj, down_proj" in (tmp_path / "out" / "README.md").read_text()


def test_what_a_storage_from_elsewhere_calls_a_set_commands_nothing(searched, tmp_path):
    evil = "\x1b[31m[bold]</script><script>alert(1)</script>"
    with closing(sqlite3.connect(tmp_path / "rank-sweep.db")) as connection, connection:
        (text,) = connection.execute(
            "SELECT distribution_json FROM trial_params WHERE param_name = 'target_modules'"
        ).fetchone()
        choices = json.loads(text) | {"attributes": {"choices": [evil, "mlp", "all"]}}
        connection.execute(
            "UPDATE trial_params SET distribution_json = ? WHERE param_name = 'target_modules'", (json.dumps(choices),)
        )
    for command in (["show"], ["trials"], ["report", "-o", "page.html"]):
        done = sweep(command[0], "tiny", *command[1:], cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "\x1b" not in done.stdout
    assert "<script>alert(1)" not in (tmp_path / "page.html").read_text()
    number = next(trial.number for trial in searched.trials if trial.params["target_modules"] == "attention")
    done = sweep("export", "tiny", "--trial", number, "-o", "out", cwd=tmp_path)
    assert done.returncode == 4
    assert "names no modules" in done.stderr and "\x1b" not in done.stderr
