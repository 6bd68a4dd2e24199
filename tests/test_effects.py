"""What a report says beyond the verdict: importance, costs, the Pareto fronts, the winner's curse."""

from dataclasses import replace

import optuna
import pytest

from sweep.answer.costs import RankCost, best_configurations, rank_costs
from sweep.html_report.contents import read_report
from sweep.plots.importance import importance_figure, importance_info
from sweep.plots.pareto import pareto_figure, pareto_info
from sweep.plots.winners_curse import RankCurse, WinnersCurseInfo, winners_curse_figure, winners_curse_info
from sweep.storage import attributes
from sweep.storage.summary import summarize
from sweep.study.reading import load_study
from tests.test_confirm import POINTS as TUNED_POINTS
from tests.test_plots import stored_study
from tests.test_report import confirm_study


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return stored_study(tmp_path_factory.mktemp("effects"))


@pytest.fixture(scope="module")
def summary(study):
    return summarize(study)


@pytest.fixture(scope="module")
def confirmed_report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("confirmed")
    study = stored_study(folder, points=TUNED_POINTS)
    confirm_study(folder)
    return read_report(study)


def test_the_winners_curse_is_the_search_maximum_minus_the_mean_on_fresh_seeds(confirmed_report):
    info = winners_curse_info(confirmed_report.evidence.summary, confirmed_report.evidence.confirmed)
    assert [(c.r, c.search_max, c.search_trials, c.seeds) for c in info.ranks] == [
        (1, pytest.approx(0.42), 2, 10),
        (4, pytest.approx(0.60), 2, 10),
        (16, pytest.approx(0.62), 2, 10),
    ]
    # Ten seeds of a noise that sums to zero, around .42, .60 and .605.
    assert [c.mean for c in info.ranks] == pytest.approx([0.42, 0.60, 0.605])
    assert [c.overstated for c in info.ranks] == pytest.approx([0.0, 0.0, 0.015], abs=1e-9)
    assert info.sentence == (
        "The best of the search's trials, at r=16, had 0.620. On fresh seeds the mean of r=16 is 0.605: the maximum "
        "lies 0.015 above it. Whoever takes the best of many noisy trials takes luck along with merit (the winner's "
        "curse)."
    )
    maxima, means = winners_curse_figure(info).data
    assert (maxima.text[-1], len(means.y)) == ("+0.015", 3)


def test_a_search_maximum_below_the_mean_is_not_called_luck():
    rank = RankCurse(r=4, search_max=0.544, search_trials=4, smoothed=0.54, mean=0.56, lower=0.55, upper=0.57, seeds=10)
    info = WinnersCurseInfo(ranks=(rank,), confidence=0.95)
    assert "had 0.544" in info.sentence
    assert "the maximum lies 0.016 below it" in info.sentence
    assert "takes luck along" not in info.sentence
    assert winners_curse_figure(info).data[0].text == ("-0.016",)


def test_the_best_configurations_are_those_that_confirmation_froze(confirmed_report):
    frozen = confirmed_report.evidence.confirmed.confirmation.frozen
    assert confirmed_report.best.ranks == frozen
    summary = confirmed_report.evidence.summary
    assert best_configurations(summary, None).ranks == frozen


def test_without_a_trial_that_learned_there_is_no_best_configuration(tmp_path):
    report = read_report(stored_study(tmp_path, points=[(1, 64, 4e-3, 0.01)]))
    assert "has no trial to confirm" in report.best.why_none


def scored_trials(rows):
    """Trials from (r, rate, score, collapsed), as far as importance asks."""
    ladders = {name: sorted({row[i] for row in rows}) for i, name in enumerate(("r", "learning_rate"))}
    return [
        optuna.trial.create_trial(
            params={"r": r, "learning_rate": rate},
            distributions={
                name: optuna.distributions.CategoricalDistribution(ladder) for name, ladder in ladders.items()
            },
            value=score,
            user_attrs={
                attributes.SCORES: [{"step": 1, "sampled": score, "greedy": score, "prompts": 8}],
                attributes.COLLAPSED: collapsed,
            },
        )
        for r, rate, score, collapsed in rows
    ]


def test_importance_names_what_decides_with_and_without_collapse():
    rates = (1e-3, 2e-3, 8e-3)
    rows = [(r, rate, 0.0 if rate == 8e-3 else 0.4 + r / 100, rate == 8e-3) for r in (1, 4, 16) for rate in rates] * 2
    info = importance_info(scored_trials(rows))
    assert (info.every.trials, info.learned.trials) == (18, 12)
    assert info.every.shares["learning_rate"] > 0.9
    assert info.learned.shares["r"] == pytest.approx(1.0)
    assert info.every.shares == importance_info(scored_trials(rows)).every.shares
    assert [bar.name for bar in importance_figure(info).data] == [
        "every trial (n=18)",
        "trials that did not collapse (n=12)",
    ]


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ([], "0 trials are too few to tell; from 10 on"),
        ([(1, 1e-3, 0.1 * i, False) for i in range(9)], "9 trials are too few to tell; from 10 on"),
        ([(1 + i % 2, 1e-3, 0.5, False) for i in range(12)], "all 12 trials have the same held-out reward"),
        ([(1, 1e-3, 0.1 * i, False) for i in range(12)], "all 12 trials have the same parameters"),
        ([(1 + i % 2, 1e-3, 0.5 + 1e-12 * i, False) for i in range(12)], "held-out rewards hardly differ"),
    ],
)
def test_importance_says_why_there_is_none(rows, why):
    info = importance_info(scored_trials(rows))
    assert (info.every.why_none, info.every.shares) == (why, {})
    assert info.learned.why_none == why


def test_importance_of_a_ladder_with_one_value_is_none_of_it():
    info = importance_info(scored_trials([(1 + i % 2, 1e-3, 0.5 + i % 2, False) for i in range(12)]))
    assert info.every.shares == {"r": 1.0, "learning_rate": 0.0}
    assert [bar.name for bar in importance_figure(info).data] == ["every trial (n=12)"]


def rank_cost(r, reward, memory, parameters, seconds):
    return RankCost(
        r=r, reward=reward, n=3, ceiling=8, memory_bytes=memory, adapter_parameters=parameters, seconds_per_step=seconds
    )


def test_a_rank_is_dominated_where_another_costs_no_more_and_scores_no_less():
    ranks = [rank_cost(1, 0.4, 10, 1, 0.5), rank_cost(4, 0.6, 20, 4, 0.4), rank_cost(16, 0.55, 30, 16, None)]
    info = pareto_info(ranks, confirmed=True)
    assert info.front("memory_bytes") == info.front("adapter_parameters") == (1, 4)
    assert info.front("seconds_per_step") == (4,)
    assert (info.dominated, info.sentence) == ((16,), "On none: r=16.")
    front, dominated = pareto_figure(info, "memory_bytes").data
    assert (front.x, front.text, dominated.text) == ((10, 20), ("r=1", "r=4"), ("r=16",))


def test_equal_ranks_are_both_on_the_front():
    info = pareto_info([rank_cost(1, 0.5, 8, 1, 0.5), rank_cost(4, 0.5, 8, 1, 0.5)], confirmed=False)
    assert info.front("memory_bytes") == (1, 4)
    assert info.sentence == "Every rank is on one."


def test_a_ranks_costs_are_the_planners_bytes_and_the_trials_own_measurements(study, summary):
    config = load_study("tiny", ["learner.name=trl"])
    costs = rank_costs(replace(summary, config=config), None, study.get_trials(deepcopy=False))
    assert [(c.r, c.reward, c.n, c.ceiling) for c in costs] == [(1, 0.45, 2, 1), (16, pytest.approx(0.65), 2, 16)]
    assert [(c.adapter_parameters, c.seconds_per_step) for c in costs] == [(100, 0.2)] * 2
    # By hand: per layer q 128+128, k and v 128+64 each, o 128+128, gate and up 128+256 each, down 256+128; two layers;
    # embeddings and logits 72+128 each; four bytes.
    row = 2 * (256 + 2 * 192 + 256 + 3 * 384) + 2 * 200
    assert [c.memory_bytes for c in costs] == [row * 4, row * 4 * 16]
    elsewhere = load_study("tiny", ["model.name=someone/not-here"])
    assert [c.memory_bytes for c in rank_costs(replace(summary, config=elsewhere), None, ())] == [None, None]
