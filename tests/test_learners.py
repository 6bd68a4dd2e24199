"""What every learner promises: `objectives.learners.protocol.Learner`, one suite for all of them."""

import math

import pytest

from objectives.errors import RewardError
from objectives.learners.packed.learner import PackedLearner
from objectives.lora import TARGET_MODULES
from tests.support.packed_trials import Feed, learners, spec

STEPS = 3


@pytest.fixture(params=["packed", "trl"])
def make(request, tiny, unsloth_policy, vllm_engine, tmp_path):
    """Makes one of the learners on the real policy and engine; its trials may run one after another or together."""
    from objectives.learners.trl import TrlLearner

    kind = {"packed": PackedLearner, "trl": TrlLearner}[request.param]
    made = learners(model=tiny, policy=unsloth_policy, vllm_engine=vllm_engine, folder=tmp_path)
    return lambda **options: made(kind, steps=STEPS, **options)


def test_every_trial_is_taken_told_of_step_by_step_and_finished_once(make):
    feed = Feed(*(spec(number, r=4) for number in range(3)))
    make().serve(feed)
    assert feed.specs == [] and not feed.failures
    assert sorted(feed.results) == [0, 1, 2]
    for number, result in feed.results.items():
        assert [metrics.step for metrics in feed.of(number)] == [1, 2, 3]
        assert (result.steps, result.pruned) == (STEPS, False)
        assert [score.step for score in result.scores] == [1, 2, STEPS]
        assert result.base is not None and result.tokens == feed.of(number)[-1].tokens > 0
        assert {"build", "rollout", "train", "evaluate"} <= result.seconds.keys()
        assert all(math.isfinite(metrics.reward) for metrics in feed.of(number))
        for score in (*result.scores, result.base):
            assert score.rewards == {"exact_match": pytest.approx(score.sampled)}
            assert 1 <= score.completion_tokens <= 8 and 0 <= score.cut <= 1
        assert result.effective_ranks.keys() == set(TARGET_MODULES)
        assert all(1 <= own.stable <= own.energy / 0.9 <= 4 / 0.9 for own in result.effective_ranks.values())


def test_a_pruned_trial_ends_at_its_step_and_the_others_go_on(make):
    feed = Feed(spec(0), spec(1), prune={0: 1})
    make().serve(feed)
    assert (feed.results[0].steps, feed.results[0].pruned) == (1, True)
    assert feed.results[0].scores[-1].step == 1
    assert (feed.results[1].steps, feed.results[1].pruned) == (STEPS, False)


def test_a_broken_reward_fails_its_trial_and_stops_the_learner(make):
    def broken(completions, **columns):
        raise ValueError("no such answer")

    feed = Feed(spec(0), spec(1))
    with pytest.raises(RewardError, match="reward broken raised ValueError: no such answer"):
        make(reward=broken).serve(feed)
    assert feed.failures and all(isinstance(error, RewardError) for error in feed.failures.values())
    assert not feed.results


def test_the_policy_is_itself_again_when_it_has_served(make, unsloth_policy):
    before = {name: value.clone() for name, value in unsloth_policy.base.state_dict().items()}
    make().serve(Feed(spec(0, r=64), spec(1, r=1)))
    after = unsloth_policy.base.state_dict()
    assert before.keys() == after.keys()
    assert all(before[name].equal(after[name]) for name in before)


def test_a_trial_is_the_same_whoever_ran_before_it(make):
    alone, after = Feed(spec(1, r=4)), Feed(spec(0, r=64, learning_rate=0.1), spec(1, r=4))
    make(slots=1).serve(alone)
    make(slots=1).serve(after)
    assert [m.reward for m in alone.of(1)] == [m.reward for m in after.of(1)]
    assert alone.results[1].scores[-1] == after.results[1].scores[-1]
