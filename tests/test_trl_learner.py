"""TRL's trainer on rollouts from the real engine: what a trial does, measures and leaves behind."""

import math

import pytest
import torch

from objectives.engines.adapter_files import AdapterFolder
from objectives.engines.protocol import Sampling
from objectives.errors import RewardError
from objectives.lora import LoraSpec
from objectives.rewards.calling import RewardSet
from objectives.rewards.checked import checked
from objectives.settings.learner import TrlSettings
from objectives.settings.sections import BudgetSettings, WorkerSettings
from objectives.settings.tasks import StringOpsSettings
from objectives.tasks.string_ops import StringOps
from objectives.trial.evaluation import Evaluator
from objectives.trial.messages import TrialSpec
from objectives.trial.resources import Loaded
from tests.support.feed import Feed

STEPS = 4


def spec(number=0, *, r=8, seed=0, learning_rate=2e-3):
    return TrialSpec(
        number=number, lora=LoraSpec(r=r, alpha=32), learning_rate=learning_rate, seed=seed, score_after=(1, 2, STEPS)
    )


@pytest.fixture
def make_learner(tiny, unsloth_policy, vllm_engine, tmp_path):
    from objectives.learners.trl import TrlLearner

    def make(*, reward=None, steps=STEPS, engine=vllm_engine, policy=unsloth_policy, model=tiny, **learner):
        task = StringOps(symbols=1, seed=0)
        rewards = RewardSet(functions=(checked(reward or task.reward_functions[0]),), weights=(1.0,))
        settings = WorkerSettings(
            study="test",
            model=model,
            task=StringOpsSettings(name="string_ops", symbols=1, held_out_prompts=64),
            learner=TrlSettings(**learner),
            budget=BudgetSettings(steps=steps, prompts_per_step=8, group_size=4),
            log_folder=tmp_path / "logs",
        )
        evaluator = Evaluator(
            engine=engine,
            tokenizer=policy.tokenizer,
            rewards=rewards,
            rows=task.held_out_rows(64),
            sampling=Sampling.of(settings.learner, max_tokens=task.max_completion_tokens),
        )
        loaded = Loaded(policy=policy, engine=engine, task=task, rewards=rewards, evaluator=evaluator, facts={})
        return TrlLearner(settings=settings, loaded=loaded, adapters=AdapterFolder(tmp_path / "adapters"))

    return make


def test_a_trial_reports_every_step_and_scores_itself_on_the_way(make_learner, tmp_path, capfd):
    feed = Feed(spec())
    with capfd.disabled():
        make_learner().serve(feed)
    assert [metrics.step for _, metrics in feed.steps] == list(range(1, STEPS + 1))
    for _, metrics in feed.steps:
        assert 0 <= metrics.reward <= 1
        assert 0 <= metrics.groups_without_signal <= 1
        assert metrics.entropy > 0
        assert metrics.clip_ratio is not None
        assert metrics.kl is None
        assert 1 <= metrics.completion_length <= 5
        assert metrics.seconds > 0
        assert metrics.rewards == {"exact_match": pytest.approx(metrics.reward)}
        assert metrics.reward_stds == {"exact_match": pytest.approx(metrics.reward_std, rel=1e-3)}
    assert feed.steps[-1][1].tokens > feed.steps[0][1].tokens > 0
    result = feed.results[0]
    assert [score.step for score in result.scores] == [1, 2, 4]
    assert (result.steps, result.pruned) == (STEPS, False)
    assert result.adapter_parameters == 8 * 2 * (2 * (128 + 128) + 2 * (128 + 64) + 3 * (128 + 256))
    assert set(result.seconds) >= {"build", "rollout", "train", "evaluate"}
    assert "step 4/4: reward" in (tmp_path / "logs" / "trial-0000.log").read_text()
    assert list((tmp_path / "adapters").iterdir()) == []


def test_training_moves_the_adapter_and_leaves_the_base_bit_identical(make_learner, unsloth_policy, monkeypatch):
    from objectives.learners import trl

    adapters, trained = {}, {}
    build = type(unsloth_policy).build

    def spy(self, lora, *, seed):
        model = build(self, lora, seed=seed)
        adapters.update({n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad})
        trained["model"] = model
        return model

    def look(self):
        model = trained["model"]
        trained["gradients"] = {n for n, p in model.named_parameters() if p.grad is not None}
        trained["moved"] = {n for n, p in model.named_parameters() if n in adapters and not torch.equal(adapters[n], p)}
        release(self)

    release = type(unsloth_policy).release
    monkeypatch.setattr(type(unsloth_policy), "build", spy)
    monkeypatch.setattr(type(unsloth_policy), "release", look)
    before = {name: weight.clone() for name, weight in unsloth_policy._base.state_dict().items()}
    trl_learner = make_learner()
    assert isinstance(trl_learner, trl.TrlLearner)
    trl_learner.serve(Feed(spec()))
    after = unsloth_policy._base.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all("lora_" in name for name in adapters)
    assert trained["gradients"] <= set(adapters)
    assert len(trained["moved"]) == len(adapters)


def test_a_trial_repeats_to_the_bit_whatever_ran_before_it(make_learner):
    first, second = Feed(spec()), Feed(spec(1, r=64, seed=5), spec(0))
    learner = make_learner()
    learner.serve(first)
    learner.serve(second)
    assert first.results[0].scores == second.results[0].scores
    alone = [metrics.reward for number, metrics in first.steps if number == 0]
    assert alone == [metrics.reward for number, metrics in second.steps if number == 0]


def test_a_pruned_trial_ends_early_and_is_scored(make_learner):
    feed = Feed(spec(), prune_at=2)
    make_learner().serve(feed)
    result = feed.results[0]
    assert (result.steps, result.pruned) == (2, True)
    assert result.held_out.step == 2


def test_kl_is_reported_where_the_study_penalises_it(make_learner):
    feed = Feed(spec())
    make_learner(beta=0.1, steps=2).serve(feed)
    assert feed.steps[0][1].kl == pytest.approx(0, abs=1e-5)
    assert math.isfinite(feed.steps[1][1].kl)


def test_several_steps_on_one_batch_sample_that_many_times_fewer_completions(make_learner):
    once, twice = Feed(spec()), Feed(spec())
    make_learner().serve(once)
    make_learner(num_iterations=2).serve(twice)
    assert twice.results[0].steps == once.results[0].steps == STEPS
    assert [metrics.step for _, metrics in twice.steps] == [1, 3]
    assert twice.results[0].tokens == pytest.approx(once.results[0].tokens / 2, rel=0.3)


def test_smaller_micro_batches_learn_the_same(make_learner):
    whole, halves = Feed(spec()), Feed(spec())
    make_learner(steps=2).serve(whole)
    make_learner(steps=2, micro_batch_size=16).serve(halves)
    assert halves.steps[0][1].reward == whole.steps[0][1].reward
    assert halves.steps[0][1].grad_norm == pytest.approx(whole.steps[0][1].grad_norm, rel=1e-4)


def test_a_reward_that_raises_is_told_with_its_traceback_in_the_trials_log(make_learner, tmp_path, capfd):
    def broken(prompts, completions, answer, **columns):
        return [1.0 / 0 for _ in completions]

    learner = make_learner(reward=broken)
    feed = Feed(spec(), spec(1))
    with capfd.disabled(), pytest.raises(RewardError):
        learner.serve(feed)
    assert "reward broken raised ZeroDivisionError" in str(feed.failures[0])
    assert "in broken" in (tmp_path / "logs" / "trial-0000.log").read_text()
    assert 1 not in feed.failures


def test_a_trial_that_fails_by_itself_does_not_end_the_others(make_learner):
    feed = Feed(spec(0, r=128), spec(1))
    make_learner(steps=1).serve(feed)
    assert "128" in str(feed.failures[0])
    assert 1 in feed.results


def test_rollouts_may_come_from_transformers_instead(make_learner, transformers_engine):
    feed = Feed(spec())
    make_learner(engine=transformers_engine, steps=2).serve(feed)
    assert feed.results[0].steps == 2


def test_an_adapter_on_a_base_in_4_bits_is_trained_in_float32(make_learner, tiny, peft_policy, monkeypatch):
    start, end = {}, {}

    def build(self, lora, *, seed):
        model = type(peft_policy).build(self, lora, seed=seed)
        start.update({n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad})
        return model

    def rollout(*given):
        # TRL has built its trainer by now.
        end.setdefault("first", {n: p.detach().clone() for n, p in policy._adapted.named_parameters() if n in start})
        end["last"] = {n: p.detach().clone() for n, p in policy._adapted.named_parameters() if n in start}
        return engine(*given)

    four_bits = tiny.model_copy(update={"load_in_4bit": True})
    policy = type("Watched", (type(peft_policy),), {"build": build})(four_bits)
    learner = make_learner(steps=2, policy=policy, model=four_bits)
    engine = learner._engine.rollout
    monkeypatch.setattr(learner._engine, "rollout", rollout)
    feed = Feed(spec(learning_rate=5e-6))
    learner.serve(feed)
    assert not feed.failures
    assert all(torch.equal(start[name], end["first"][name]) for name in start)
    assert {p.dtype for p in end["last"].values()} == {torch.float32}
    assert all(not torch.equal(start[name], end["last"][name]) for name in start if "lora_B" in name)


def test_a_trainer_is_gone_once_its_trial_has_ended_well_or_not(make_learner, monkeypatch):
    import weakref

    from objectives.learners import trl

    trainers = []

    class Watched(trl.GRPOTrainer):
        def __init__(self, *given, **named):
            super().__init__(*given, **named)
            trainers.append(weakref.ref(self))

    monkeypatch.setattr(trl, "GRPOTrainer", Watched)
    alive = []

    class Looking(Feed):
        def take(self):
            alive.extend(trainer() is not None for trainer in trainers)
            return super().take()

        def fail(self, number, error):
            super().fail(number, str(error))  # as it travels: an error holds the frames that it came through

    learner, feed = make_learner(steps=2), Looking(spec(0), spec(1, r=128), spec(2))
    learner.serve(feed)
    assert (list(feed.results), list(feed.failures)) == ([0, 2], [1])
    assert alive == [False] * (1 + 2 + 3)
