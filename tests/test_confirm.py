"""Confirmation through the installed command, and what it makes of stored trials."""

import ast
import json
import re
from dataclasses import asdict

import optuna
import pytest

from sweep.answer.paste import paste_calls
from sweep.confirmation.naming import confirmation_name
from sweep.confirmation.outcome import count_look, freeze, read_confirmation, store_frozen
from sweep.confirmation.schedule import ConfirmSchedule
from sweep.dashboard.note import study_note
from sweep.errors import NothingToConfirmError
from sweep.html_report.contents import read_report
from sweep.html_report.page import report_html
from sweep.plots.confirmed import confirmed_figure, confirmed_info
from sweep.search.schedule import distributions
from sweep.storage import attributes
from sweep.storage.attributes import SEED
from sweep.storage.database import create_or_match_study, open_storage
from sweep.storage.summary import summarize
from sweep.study.reading import load_study
from tests.support.command import SMALL, sweep
from tests.test_plots import BASE, STORED, stored_study

POINTS = [
    (r, alpha, rate, base + bonus)
    for r, base in ((1, 0.40), (4, 0.58), (16, 0.60))
    for alpha, rate, bonus in ((16, 1e-3, 0.0), (32, 2e-3, 0.02))
]
OVERRIDES = [
    "verdict.design=fixed", "search.points_per_rank=2", "space.r=[1, 4, 16]", "space.learning_rate=[1e-3, 2e-3, 4e-3]",
]  # fmt: skip


@pytest.fixture
def config():
    return load_study("tiny", OVERRIDES)


@pytest.fixture
def searched(tmp_path):
    return stored_study(tmp_path, points=POINTS)


def run(study, config, schedule, score, *, unscored=lambda r: 0, measured=lambda trial: {}):
    """Ends every trial of a schedule with the score that a function gives its rank and repetition."""
    schedule.queue(study)
    while any(trial.state.name == "WAITING" for trial in study.trials):
        trial = schedule.next_trial(study)
        value = score(trial.params["r"], trial.user_attrs[SEED] % 1000)
        left_out = unscored(trial.params["r"])
        score_of = {
            "sampled": value,
            "greedy": value,
            "prompts": 100 - left_out,
            "unscored": left_out,
            **measured(trial),
        }
        scores = [score_of | {"step": step} for step in (20, 40, 80)]
        trial.set_user_attr(attributes.SCORES, scores)
        trial.set_user_attr(attributes.BASE, asdict(BASE))
        trial.set_user_attr(attributes.COLLAPSED, value == 0)
        study.tell(trial, value)
    count_look(study, schedule.trials // len(freeze_of(study)))


@pytest.fixture
def confirmation(searched, config, tmp_path):
    storage = open_storage(f"sqlite:///{tmp_path}/rank-sweep.db", create=False)
    name = confirmation_name("tiny")
    study = create_or_match_study(storage, config, optuna.samplers.RandomSampler(), name=name)
    store_frozen(study, freeze(summarize(searched), config))
    return study


def noisy(r, k):
    """Rank 1 is far below, 4 and 16 are equal, up to a little noise that seeds share in part."""
    return {1: 0.42, 4: 0.60, 16: 0.605}[r] + 0.01 * ((k * 7 + r) % 3 - 1)


def test_one_configuration_is_frozen_for_each_tuned_rank(searched, config):
    search = freeze(summarize(searched), config)
    assert [frozen.r for frozen in search.frozen] == [1, 4, 16]
    assert {(frozen.alpha, frozen.learning_rate) for frozen in search.frozen} <= {(16, 1e-3), (32, 2e-3)}


def test_what_is_frozen_stays_though_the_search_goes_on(confirmation, searched, config):
    other = freeze(summarize(searched), load_study("tiny", [*OVERRIDES, "space.r=[1, 4]"]))
    assert len(store_frozen(confirmation, other).frozen) == 2, "nothing rests on what was frozen yet"
    first = store_frozen(confirmation, freeze(summarize(searched), config))
    run(confirmation, config, ConfirmSchedule(config, first.frozen, seeds=1), noisy)
    assert store_frozen(confirmation, other) == first


def test_every_rank_runs_on_the_same_seeds_and_none_of_the_searchs(confirmation, config):
    frozen = freeze_of(confirmation)
    run(confirmation, config, ConfirmSchedule(config, frozen, seeds=3), noisy)
    seeds = {}
    for trial in confirmation.trials:
        seeds.setdefault(trial.params["r"], []).append(trial.user_attrs[SEED])
    assert list(seeds.values()) == [[10**6, 10**6 + 1, 10**6 + 2]] * 3


def test_seeds_added_later_redo_none(confirmation, config):
    frozen = freeze_of(confirmation)
    run(confirmation, config, ConfirmSchedule(config, frozen, seeds=2), noisy)
    before = [trial.number for trial in confirmation.trials]
    run(confirmation, config, ConfirmSchedule(config, frozen, seeds=4), noisy)
    assert len(confirmation.trials) == 12
    assert [trial.number for trial in confirmation.trials][: len(before)] == before


def test_the_verdict_is_the_smallest_rank_as_good_as_the_best(confirmation, config):
    run(confirmation, config, ConfirmSchedule(config, freeze_of(confirmation), seeds=10), noisy)
    confirmed = read_confirmation(confirmation, config)
    assert (confirmed.verdict.r, confirmed.seeds) == (4, 10)
    assert confirmed.verdict.outcome.value == "found_and_smaller_shown_worse"
    assert confirmed.horizon.ranks == {0.25: 4, 0.5: 4, 1.0: 4}


def test_the_report_opens_with_the_verdict_and_the_calls_to_paste(searched, confirmation, config):
    run(confirmation, config, ConfirmSchedule(config, freeze_of(confirmation), seeds=10), noisy)
    confirmed = read_confirmation(confirmation, config)
    page = report_html(read_report(searched))
    assert "tiny: r = 4" in page
    assert page.index("max_lora_rank=8,") < page.index('id="confirmed"') < page.index('id="by-rank"')
    assert "max_lora_rank 8 instead of 64 lowers what the engine reserves" in page
    info = confirmed_info(confirmed)
    assert {r: len(scores) for r, scores in info.scores.items()} == {1: 10, 4: 10, 16: 10}
    assert (info.answer, sum(len(trace.x) for trace in confirmed_figure(info).data)) == (4, 33)


def learned_nothing(r, k):
    """Every rank scores as the base policy does, up to noise."""
    return 0.25 + 0.01 * ((k * 7 + r) % 3 - 1)


def test_where_nothing_was_learned_every_form_says_so_and_nothing_is_to_paste(searched, confirmation, config, tmp_path):
    run(confirmation, config, ConfirmSchedule(config, freeze_of(confirmation), seeds=10), learned_nothing)
    confirmed = read_confirmation(confirmation, config)
    assert (confirmed.verdict.outcome.value, confirmed.verdict.r) == ("nothing_learned", None)
    assert confirmed.horizon.warning == ""
    report = read_report(searched)
    page = report_html(report)
    assert "tiny: nothing learned" in page
    assert "FastLanguageModel" not in page.split("<h2>How it was made")[0]
    assert "max_lora_rank 8 instead of 64" not in page
    shown = sweep("show", "tiny", cwd=tmp_path, env={"COLUMNS": "80"})
    assert "Nothing learned (95 % confidence, 10 seeds)" in shown.stdout
    assert "r*" not in shown.stdout
    verdict = json.loads(sweep("show", "tiny", "--json", cwd=tmp_path).stdout)["verdict"]
    assert (verdict["outcome"], verdict["r"], verdict["alpha"]) == ("nothing_learned", None, None)
    assert verdict["base"] == pytest.approx(0.25)
    note = study_note(report.evidence.summary, confirmed, confirm_with="tiny")
    assert note.startswith("# tiny: nothing learned\n")
    assert "```python" not in note
    refused = sweep("export", "tiny", "-o", "out", cwd=tmp_path)
    assert refused.returncode == 2
    assert "the verdict names no rank: Nothing learned" in refused.stderr
    assert sweep("export", "tiny", "--trial", 0, "-o", "out", cwd=tmp_path).returncode == 0


def test_the_calls_to_paste_are_python_that_unsloth_would_take(config):
    tree = ast.parse(paste_calls(config, r=4, alpha=32))
    calls = {ast.unparse(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    keywords = {k.arg: ast.literal_eval(k.value) for k in calls["FastLanguageModel.get_peft_model"].keywords}
    assert (keywords["r"], keywords["lora_alpha"], keywords["lora_dropout"]) == (4, 32, 0)
    loading = {k.arg: ast.literal_eval(k.value) for k in calls["FastLanguageModel.from_pretrained"].keywords}
    assert loading["max_lora_rank"] == 8
    # A shipped model is a folder of this installation: where it lies is no name for anybody else.
    assert (config.model.name, loading["model_name"]) == ("shipped/tiny", "shipped/tiny")


def test_a_rank_that_collapses_is_not_recommended(confirmation, config):
    def collapsing(r, k):
        return 0.0 if r == 4 and k < 7 else noisy(r, k)

    run(confirmation, config, ConfirmSchedule(config, freeze_of(confirmation), seeds=10), collapsing)
    confirmed = read_confirmation(confirmation, config)
    assert confirmed.verdict.r == 16
    assert {rank.r: rank.collapsed for rank in confirmed.verdict.per_rank} == {1: 0, 4: 7, 16: 0}


def test_the_verdict_is_whole_on_a_terminal_of_eighty_columns(confirmation, config, tmp_path):
    run(confirmation, config, ConfirmSchedule(config, freeze_of(confirmation), seeds=10), noisy)
    shown = sweep("show", "tiny", cwd=tmp_path, env={"COLUMNS": "80"}).stdout
    assert "…" not in shown
    assert re.search(r"^ +4 +\d+ +0\.00\d +10 +0 +0\.\d{3} +0\.\d{3} to 0\.\d{3} .* r\*", shown, re.MULTILINE)


def test_seeds_that_came_after_the_last_look_are_not_judged_by(confirmation, config):
    run(confirmation, config, ConfirmSchedule(config, freeze_of(confirmation), seeds=4), noisy)
    first = read_confirmation(confirmation, config)
    schedule = ConfirmSchedule(config, freeze_of(confirmation), seeds=8)
    schedule.queue(confirmation)
    for _ in range(5):
        trial = schedule.next_trial(confirmation)
        trial.set_user_attr(attributes.SCORES, [{"step": 80, "sampled": 0.9, "greedy": 0.9, "prompts": 64}])
        confirmation.tell(trial, 0.9)
    assert read_confirmation(confirmation, config).verdict == first.verdict
    assert first.seeds == 4


def test_more_looks_than_declared_are_said_wherever_the_verdict_is(searched, confirmation, config, tmp_path):
    for seeds in (10, 12, 14):
        run(confirmation, config, ConfirmSchedule(config, freeze_of(confirmation), seeds=seeds), noisy)
    [warning] = read_confirmation(confirmation, config).warnings
    assert "this is look 3 at a verdict declared for 2" in warning
    assert warning in report_html(read_report(searched)).replace("&gt;", ">")
    assert warning in " ".join(sweep("show", "tiny", cwd=tmp_path).stdout.split())
    assert json.loads(sweep("show", "tiny", "--json", cwd=tmp_path).stdout)["verdict"]["warnings"] == [warning]
    sweep("export", "tiny", "-o", "out", cwd=tmp_path)
    assert warning in (tmp_path / "out" / "README.md").read_text()


def test_a_rank_whose_gain_is_over_other_prompts_than_the_base_policys_is_warned_of(confirmation, config, tmp_path):
    left_out = {1: 5, 4: 40, 16: 0}
    schedule = ConfirmSchedule(config, freeze_of(confirmation), seeds=10)
    run(confirmation, config, schedule, noisy, unscored=left_out.get)
    [warning] = read_confirmation(confirmation, config).warnings
    assert warning == (
        "r=4: 40 % of its held-out completions have no reward (base policy: 0 %): gains are over different prompts"
    )
    assert warning in " ".join(sweep("show", "tiny", cwd=tmp_path).stdout.split())
    verdict = json.loads(sweep("show", "tiny", "--json", cwd=tmp_path).stdout)["verdict"]
    assert {rank["r"]: rank["unscored"] for rank in verdict["per_rank"]} == {1: 0.05, 4: pytest.approx(0.4), 16: 0.0}
    assert (verdict["base_unscored"], verdict["warnings"]) == (0.0, [warning])


def test_trials_that_failed_are_said_and_run_again(confirmation, config):
    frozen = freeze_of(confirmation)
    schedule = ConfirmSchedule(config, frozen, seeds=3)
    schedule.queue(confirmation)
    failed = schedule.next_trial(confirmation)
    confirmation.tell(failed, state=optuna.trial.TrialState.FAIL)
    for _ in range(len(frozen) * 3 - 1):
        trial = schedule.next_trial(confirmation)
        trial.set_user_attr(attributes.SCORES, [{"step": 80, "sampled": 0.5, "greedy": 0.5, "prompts": 64}])
        confirmation.tell(trial, 0.5)
    count_look(confirmation, 3)
    assert read_confirmation(confirmation, config).warnings == (
        "1 of 9 confirmation trials failed and are missing here; `sweep confirm` runs them again",
    )
    again = ConfirmSchedule(config, frozen, seeds=3)
    run(confirmation, config, again, noisy)
    assert again.trials == 10
    assert [trial.params for trial in confirmation.trials].count(failed.params) == 4
    assert read_confirmation(confirmation, config).warnings == ()


def test_a_trial_that_collapsed_and_then_failed_counts_as_collapsed(confirmation, config):
    frozen = freeze_of(confirmation)
    schedule = ConfirmSchedule(config, frozen, seeds=2)
    schedule.queue(confirmation)
    trial = schedule.next_trial(confirmation)
    trial.set_user_attr(attributes.COLLAPSED, True)
    confirmation.tell(trial, state=optuna.trial.TrialState.FAIL)
    run(confirmation, config, ConfirmSchedule(config, frozen, seeds=2), noisy)
    [rank] = [rank for rank in read_confirmation(confirmation, config).verdict.per_rank if rank.r == trial.params["r"]]
    assert (rank.collapsed, rank.n_seeds) == (1, 1)


def test_a_search_that_tuned_one_rank_is_not_confirmed_and_can_be_later(tmp_path):
    stored_study(tmp_path, points=POINTS[:2])
    done = sweep("confirm", "tiny", *[f"--set={o}" for o in STORED], cwd=tmp_path)
    assert done.returncode == 2
    assert "confirm compares ranks, and this search has tuned only r=1" in done.stderr
    assert "`sweep run tiny --set " in done.stderr
    assert "` continues it" in done.stderr


def test_a_confirmation_without_trials_has_no_verdict(confirmation, config):
    assert read_confirmation(confirmation, config) is None


def test_a_study_without_trials_is_not_confirmed(tmp_path, config):
    with pytest.raises(NothingToConfirmError, match="has no trial to confirm"):
        freeze(summarize(stored_study(tmp_path, points=[])), config)


def freeze_of(study):
    from sweep.confirmation.outcome import stored_frozen

    return stored_frozen(study).frozen


@pytest.mark.long
def test_the_command_confirms_a_study_and_shows_the_verdict(tmp_path):
    small = [*SMALL, "--set", "space.r=[1,64]", "--set", "search.points_per_rank=1", "--set", "budget.steps=4"]
    assert sweep("run", "tiny", "--trials", 2, *small, cwd=tmp_path).returncode == 0
    done = sweep("confirm", "tiny", "--seeds", 2, *small, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 ranks x 2 seeds = 4 trials" in done.stdout
    assert "warning: 2 seeds cannot show a collapse rate within 0.35" in done.stdout
    assert "Undecided" in done.stdout
    names = optuna.study.get_all_study_names(f"sqlite:///{tmp_path}/rank-sweep.db")
    assert sorted(names) == ["tiny", "tiny.confirm"]
    shown = json.loads(sweep("show", "tiny", "--json", cwd=tmp_path).stdout)
    assert len(shown["trials"]) == 2
    assert shown["verdict"]["outcome"] == "undecided"
    assert shown["verdict"].keys() >= {"r", "alpha", "learning_rate", "confidence", "keep", "tolerance", "reason"}
    assert all({"lower", "upper"} <= rank.keys() for rank in shown["ranks"])
    changed = sweep("confirm", "tiny", *small, "--set", "verdict.keep=0.8", cwd=tmp_path)
    assert changed.returncode == 3
    assert "verdict.keep: 0.85 -> 0.8" in changed.stderr


def test_the_distributions_of_a_confirmation_are_the_searchs(confirmation, config):
    run(confirmation, config, ConfirmSchedule(config, freeze_of(confirmation), seeds=2), noisy)
    assert confirmation.trials[0].distributions == distributions(config.search_space())
