"""Guards from the study file to the report: what is measured, what is refused, what is stored and what is said."""

import io
import json
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from rich.console import Console

from objectives.engines.protocol import Completion, Sampling
from objectives.errors import TaskError
from objectives.rewards.calling import RewardSet, check_names
from objectives.rewards.checked import checked
from objectives.trial.evaluation import Due, Evaluator
from sweep.confirmation.naming import confirmation_name
from sweep.confirmation.outcome import freeze, read_confirmation, store_frozen
from sweep.confirmation.schedule import ConfirmSchedule
from sweep.errors import StudyFileError, StudyMismatchError
from sweep.html_report.contents import read_report
from sweep.html_report.page import report_html
from sweep.plots.guards import guard_figure, guards_info
from sweep.preflight.checks import check_study
from sweep.results import load_results
from sweep.storage import attributes
from sweep.storage.attributes import CONFIG
from sweep.storage.database import create_or_match_study, match_study, open_storage
from sweep.storage.summary import summarize
from sweep.study.reading import load_study
from sweep.terminal.verdict import verdict_report
from tests.test_confirm import OVERRIDES, POINTS, freeze_of, noisy, run
from tests.test_plots import stored_study

GUARDS = [
    "verdict.guards=[{measure='reward:exact_match', worse_by=0.2}, {measure='completion_tokens', worse_by=5},"
    " {measure='cut', worse_by=0.1}]"
]


class Scripted:
    """An engine whose completions are given."""

    def __init__(self, *completions):
        self.completions = list(completions)

    def rollout(self, prompts, adapters, sampling, seeds):
        return self.completions[: len(prompts)]


def test_a_score_holds_each_reward_the_length_and_the_share_that_is_cut(unsloth_policy):
    engine = Scripted(*(Completion(token_ids=tuple(range(5, 5 + n)), truncated=n == 6) for n in (1, 2, 3, 6)))

    def own(completions, **_):
        return [1.0, 0.0, None, 1.0][: len(completions)]

    def never(completions, **_):
        return [None] * len(completions)

    rewards = RewardSet(functions=(checked(own), checked(never)), weights=(2.0, 1.0))
    evaluator = Evaluator(
        engine=engine, tokenizer=unsloth_policy.tokenizer, rewards=rewards, rows=[{"prompt": "a"}] * 4,
        sampling=Sampling(temperature=1.0, max_tokens=6),
    )  # fmt: skip
    score = evaluator.score(Due(adapter=None, step=0, seed=0))
    assert (score.rewards, score.completion_tokens, score.cut) == (
        {"own": pytest.approx(2 / 3), "never": None}, 3.0, 0.25,
    )  # fmt: skip
    assert (score.sampled, score.prompts, score.unscored) == (pytest.approx(4 / 3), 3, 1)


@pytest.mark.parametrize(
    ("guards", "told"),
    [
        (
            "[{measure='length', worse_by=1}]",
            r"guards.0.measure: names no measure; allowed: reward:NAME, completion_tokens",
        ),
        ("[{measure='reward:', worse_by=1}]", "names no measure"),
        ("[{measure='cut', worse_by=0}]", r"guards.0.worse_by: Input should be greater than 0 \(given: 0\)"),
        (
            "[{measure='cut', worse=1}]",
            r"guards.0.worse: unknown key; did you mean 'worse_by'\? allowed: measure, worse_by",
        ),
        ("[{measure='cut', worse_by=1}]", r"worse_by=1 of measure='cut' allows every share; allowed: below 1"),
        (
            "[{measure='cut', worse_by=0.1}, {measure='cut', worse_by=0.2}]",
            "measure='cut' has two guards; allowed: one for",
        ),
        (
            "[{measure='reward:exct', worse_by=1}]",
            r"no reward function 'exct', as verdict\.guards has it; allowed: exact_match",
        ),
    ],
)
def test_a_guard_that_cannot_be_is_refused_in_one_line(guards, told):
    with pytest.raises(StudyFileError, match=told):
        check_study(load_study("tiny", [f"verdict.guards={guards}"]))


def test_a_reward_of_the_users_own_is_known_by_its_name(tmp_path):
    (tmp_path / "mine.py").write_text("def right(completions, **_):\n    return [1.0] * len(completions)\n")
    (tmp_path / "study.toml").write_text(
        "".join(f"[{section}]\n{lines}\n" for section, lines in {
            "study": 'name = "s"', "model": 'name = "shipped/tiny"\nmax_lora_rank = 16\nmax_seq_length = 64',
            "space": "learning_rate = [1e-3, 2e-3, 4e-3]", "budget": "steps = 2\nprompts_per_step = 2\ngroup_size = 2",
            "task": 'name = "string_ops"\nreward = { good = "mine:right" }',
            "[verdict.guards]": 'measure = "reward:exact_match"\nworse_by = 0.1',
        }.items())
    )  # fmt: skip
    study = load_study(str(tmp_path / "study.toml"))
    with pytest.raises(
        StudyFileError, match=r"no reward function 'exact_match', as verdict\.guards has it; allowed: good"
    ):
        check_study(study)
    check_study(load_study(str(tmp_path / "study.toml"), ["verdict.guards=[{measure='reward:good', worse_by=0.1}]"]))


def test_a_worker_refuses_a_name_that_only_its_task_could_have_told():
    assert load_study("tiny", GUARDS).worker_settings(Path()).guarded_rewards == ("exact_match",)
    with pytest.raises(TaskError, match=r"no reward function 'b', as verdict\.guards has it; allowed: a, c"):
        check_names(["a", "b"], ["a", "c"])


def test_a_study_from_before_there_were_guards_goes_on_and_gets_none(tmp_path):
    study = stored_study(tmp_path, points=POINTS, more=OVERRIDES)
    config = study.user_attrs[CONFIG]
    del config["verdict"]["guards"]
    study.set_user_attr(CONFIG, config)
    stored = ["learner.name=trl", *OVERRIDES]
    match_study(study, load_study("tiny", stored))
    with pytest.raises(StudyMismatchError, match=r"verdict\.guards"):
        match_study(study, load_study("tiny", [*stored, *GUARDS]))


def measured(trial):
    """Rank 1 keeps the reward of others, and cuts many more completions."""
    r, k = trial.params["r"], trial.user_attrs[attributes.SEED] % 1000
    cut = 0.01 * (k % 3) + (0.3 if r == 4 else 0.0)
    return {"rewards": {"exact_match": 0.5 + 0.01 * (k % 4)}, "completion_tokens": 20.0 + k % 2, "cut": cut}


@pytest.fixture
def confirmed(tmp_path):
    """A confirmation in which rank 4 would be named, but for its guard."""
    searched = stored_study(tmp_path, points=POINTS, more=[*OVERRIDES, *GUARDS])
    config = load_study("tiny", ["learner.name=trl", *OVERRIDES, *GUARDS])
    storage = open_storage(f"sqlite:///{tmp_path}/rank-sweep.db", create=False)
    sampler = optuna.samplers.RandomSampler()
    study = create_or_match_study(storage, config, sampler, name=confirmation_name("tiny"))
    store_frozen(study, freeze(summarize(searched), config))
    run(study, config, ConfirmSchedule(config, freeze_of(study), seeds=10), noisy, measured=measured)
    return searched, read_confirmation(study, config)


def test_the_verdict_the_report_and_the_terminal_name_the_guard_that_failed(confirmed):
    searched, found = confirmed
    assert found.verdict.r == 16
    assert "r=4, is shown to be worse than r=16 by more than 0.1 in share of cut completions" in found.verdict.reason
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(verdict_report(found, summarize(searched)))
    said = " ".join(console.export_text().split())
    assert "share of cut completions, by at most 0.1 worse: r=1 0.009, r=4 0.309 (not passed), r=16 0.009" in said
    page = report_html(read_report(searched))
    assert page.count('id="guard-') == 3 and 'id="guard-reward-exact-match"' in page.replace("_", "-")
    assert "In share of cut completions, a smaller rank may lie at most 0.1 above r=16" in page


def test_the_figure_has_each_rank_and_the_limit(confirmed):
    _, found = confirmed
    reward, length, cut = guards_info(found)
    assert [(rank.r, rank.passes) for rank in cut.ranks] == [(1, True), (4, False), (16, True)]
    assert cut.limit == pytest.approx(cut.ranks[2].measure + 0.1)
    assert reward.limit == pytest.approx(reward.ranks[2].measure - 0.2)
    assert length.sentence == "In completion length, a smaller rank may lie at most 5 above r=16"
    figure = guard_figure(cut)
    assert [trace.marker.symbol for trace in figure.data] == ["circle", "circle-open", "circle"]
    assert figure.layout.shapes[0].x0 == cut.limit


def test_frames_have_what_was_measured(confirmed, tmp_path):
    trials = load_results(f"sqlite:///{tmp_path}/rank-sweep.db", "tiny").trials
    ranks = trials[trials.phase == "confirm"].groupby("r")
    assert ranks.held_out_cut.mean().round(3).to_dict() == {1: 0.009, 4: 0.309, 16: 0.009}
    assert ranks["held_out:exact_match"].mean().between(0.5, 0.53).all() and ranks.held_out_tokens.min().eq(20).all()
    assert trials[trials.phase == "search"].held_out_cut.isna().all()


def test_a_guard_that_no_trial_has_a_measure_of_is_said_not_to_be_measured(confirmed):
    searched, found = confirmed
    unknown = tuple(
        replace(rank, guards=tuple(replace(guard, mean=None) for guard in rank.guards))
        for rank in found.verdict.per_rank
    )
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(verdict_report(replace(found, verdict=replace(found.verdict, per_rank=unknown)), summarize(searched)))
    said = " ".join(console.export_text().split())
    assert "share of cut completions, by at most 0.1 worse: not measured" in said


def test_without_guards_a_report_has_no_figure_of_them(tmp_path):
    page = report_html(read_report(stored_study(tmp_path)))
    assert 'id="guard-' not in page
    assert json.loads(json.dumps(load_study("tiny").model_dump(mode="json")))["verdict"]["guards"] == []
