"""Plain scaling and rsLoRA searched side by side: what each is compared by, and what a rank takes to confirmation."""

import dataclasses
import json
import math

import numpy as np
import pytest

from sweep.confirmation.outcome import freeze, store_frozen, stored_frozen
from sweep.confirmation.schedule import ConfirmSchedule
from sweep.search.schedule import trial_spec
from sweep.statistics.smoothing import SearchPoint, log2_axes, smooth_scores
from sweep.storage.attributes import FROZEN
from sweep.storage.database import create_or_match_study, open_storage
from sweep.storage.summary import summarize
from sweep.study.reading import load_study
from tests.support.command import sweep
from tests.support.packed_trials import Feed, learners, spec
from tests.support.scripted_worker import ScriptedWorker

BOTH = [
    "space.r=[4, 16]", "space.alpha=[16, 32]", "space.learning_rate=[1e-3, 2e-3, 4e-3]",
    "space.use_rslora=[false, true]", "search.points_per_rank=12", "search.trials=24", "budget.steps=4",
]  # fmt: skip


@pytest.fixture
def config():
    return load_study("tiny", BOTH)


def planted(spec, step):
    """Best at a scaling of 4: plain with alpha 16 at rank 4, rsLoRA with alpha 16 at rank 16."""
    return 0.4 + 0.1 * (spec.lora.scaling == 4) + 0.05 * (spec.learning_rate == 2e-3) + step / 1000


def test_a_rank_takes_its_better_scaling_to_confirmation(config, supervise, tmp_path):
    study = supervise(config, ScriptedWorker(planted))
    summary = summarize(study)
    assert all(rank.tuned for rank in summary.ranks)
    search = freeze(summary, config)
    assert [(f.r, f.alpha, f.use_rslora, f.learning_rate) for f in search.frozen] == [
        (4, 16, False, 2e-3), (16, 16, True, 2e-3),
    ]  # fmt: skip
    storage = open_storage(f"sqlite:///{tmp_path}/rank-sweep.db", create=False)
    confirmation = create_or_match_study(storage, config, study.sampler, name="tiny.confirm")
    assert store_frozen(confirmation, search) == stored_frozen(confirmation) == search
    assert "target_modules" not in confirmation.user_attrs[FROZEN]["frozen"][0]
    schedule = ConfirmSchedule(config, search.frozen, seeds=2)
    schedule.queue(confirmation)
    asked = [schedule.next_trial(confirmation) for _ in range(4)]
    assert [trial_spec(trial, config).lora.use_rslora for trial in asked] == [False, True] * 2
    shown = json.loads(sweep("show", "tiny", "--json", cwd=tmp_path).stdout)
    assert {trial["use_rslora"] for trial in shown["trials"]} == {False, True}
    done = sweep("report", "tiny", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_rsLoRA_is_smoothed_as_the_plain_alpha_that_trains_the_same():
    rng = np.random.default_rng(0)
    plain, rooted = [], []
    for r in (4, 16):
        for alpha in (16, 32, 64):
            for rate in (1e-3, 2e-3):
                known = {"r": r, "learning_rate": rate, "score": 0.5 + 0.02 * math.log2(alpha) + rng.normal(0, 0.02)}
                plain.append(SearchPoint(alpha=alpha * math.sqrt(r), **known))
                rooted.append(SearchPoint(alpha=alpha, use_rslora=True, **known))
    np.testing.assert_allclose(smooth_scores(plain)[0], smooth_scores(rooted)[0], atol=1e-6)
    together = smooth_scores([*plain, *rooted])[0]
    np.testing.assert_allclose(together[: len(plain)], together[len(plain) :], atol=1e-6)
    # Taken at their word, the same alphas are other places.
    unrooted = [dataclasses.replace(point, use_rslora=False) for point in rooted]
    assert not np.allclose(smooth_scores(unrooted)[0], smooth_scores(plain)[0], atol=1e-4)


def test_rsLoRA_trains_as_plain_scaling_with_alpha_times_the_root_of_r(tiny, unsloth_policy, vllm_engine, tmp_path):
    make = learners(model=tiny, policy=unsloth_policy, vllm_engine=vllm_engine, folder=tmp_path)
    feed = Feed(spec(0, r=16, alpha=64, seed=5), rooted := spec(1, r=16, alpha=16, seed=5))
    feed.specs[1] = dataclasses.replace(rooted, lora=dataclasses.replace(rooted.lora, use_rslora=True))
    make(slots=2).serve(feed)
    assert [m.grad_norm for m in feed.of(0)] == pytest.approx([m.grad_norm for m in feed.of(1)], rel=1e-4)
    assert feed.results[0].scores[0].sampled == pytest.approx(feed.results[1].scores[0].sampled, abs=0.02)


@pytest.mark.parametrize("n", [2, 3, 4])
def test_any_two_sets_lie_as_far_apart_as_two_neighbours_on_a_ladder_of_powers_of_four(n):
    names = ["attention", "mlp", "all", "q_proj"][:n]
    points = [SearchPoint(r=4, alpha=32, learning_rate=1e-3, score=0.5, target_modules=name) for name in names]
    own, *others = log2_axes(points)
    assert [float(np.linalg.norm(other - own)) for other in others] == pytest.approx([2.0] * (n - 1))
    [low, high] = log2_axes([dataclasses.replace(points[0], r=r) for r in (4, 16)])
    assert np.linalg.norm(high - low) == pytest.approx(2.0)


def test_sets_of_modules_lie_apart_in_the_smoothing_and_a_single_one_changes_nothing():
    rng = np.random.default_rng(1)
    rates = (1e-3, 2e-3, 4e-3)
    truth = {"attention": 0.4, "mlp": 0.6, "all": 0.6}
    points = [
        SearchPoint(r=r, alpha=32, learning_rate=rate, score=mean + rng.normal(0, 0.01), target_modules=name)
        for name, mean in truth.items()
        for r in (4, 16, 64)
        for rate in rates
    ]
    smoothed, _ = smooth_scores(points)
    for name, mean in truth.items():
        own = [value for point, value in zip(points, smoothed, strict=True) if point.target_modules == name]
        assert np.mean(own) == pytest.approx(mean, abs=0.02)
    bare = [SearchPoint(r=p.r, alpha=p.alpha, learning_rate=p.learning_rate, score=p.score) for p in points[:9]]
    assert np.array_equal(smooth_scores(points[:9])[0], smooth_scores(bare)[0])
