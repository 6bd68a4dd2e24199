"""Packed trials on rollouts from the real engine: each as it would be alone, whatever happens to its neighbours."""

import dataclasses
import re
import statistics
import threading
import time

import pytest
import torch

from objectives.engines.adapter_files import AdapterFolder
from objectives.engines.protocol import Sampling
from objectives.learners.packed.linear import pack
from objectives.learners.packed.slots import SlotAdapter
from objectives.learners.packed.trial_run import prompt_order
from objectives.lora import TARGET_MODULES, LoraSpec
from tests.support.packed_trials import STEPS, Engine, Feed, learners, spec


@pytest.fixture
def make(tiny, unsloth_policy, vllm_engine, tmp_path):
    return learners(model=tiny, policy=unsloth_policy, vllm_engine=vllm_engine, folder=tmp_path)


def rewards(feed, number):
    return [metrics.reward for metrics in feed.of(number)]


def test_packed_trials_see_and_learn_what_TRL_alone_does(make, tmp_path):
    """The same prompts and seeds to the last; the first step's numbers, before rounding has had time to grow."""
    from objectives.learners.trl import TrlLearner

    specs = [spec(0, r=4), spec(1, r=64, alpha=16), spec(2, r=1, learning_rate=5e-3)]
    packed, alone = Feed(*specs), Feed(*specs)
    learner, solo = make(), make(TrlLearner)
    learner.serve(packed)
    logs = [(tmp_path / "logs" / f"trial-{trial:04d}.log").read_text() for trial in range(3)]
    solo.serve(alone)
    n = 8 * 4
    assert [len(prompts) for prompts, *_ in learner.engine.training()] == [n, 2 * n] * STEPS
    for trial in range(3):
        calls, theirs = list(learner.engine.training_of(trial)), list(solo.engine.training_of(trial))
        assert len(calls) == STEPS  # 20 prompts, 8 a step: the third step is in another epoch
        for (prompts, adapters, *rest), (solo_prompts, _, *solo_rest) in zip(calls, theirs, strict=True):
            assert (prompts, rest) == (solo_prompts, solo_rest)
            assert {a.r for a in adapters} == {specs[trial].lora.r}
        ours, right = packed.of(trial), alone.of(trial)
        assert [m.step for m in ours] == [m.step for m in right]
        for name in ("reward", "reward_std", "groups_without_signal", "completion_length", "clip_ratio"):
            assert getattr(ours[0], name) == pytest.approx(getattr(right[0], name), rel=1e-4, abs=1e-5), name
        assert ours[0].loss == pytest.approx(right[0].loss, abs=1e-5)
        assert ours[0].grad_norm == pytest.approx(right[0].grad_norm, rel=1e-3)
        assert ours[0].rewards == pytest.approx(right[0].rewards)
        assert ours[0].reward_stds == pytest.approx(right[0].reward_stds)
        assert (ours[0].tokens, ours[0].kl) == (right[0].tokens, None)
        assert statistics.mean(rewards(packed, trial)) == pytest.approx(
            statistics.mean(rewards(alone, trial)), abs=0.15
        )
        found, expected = packed.results[trial], alone.results[trial]
        assert [score.step for score in found.scores] == [1, 2, 4] == [score.step for score in expected.scores]
        assert found.held_out.greedy == pytest.approx(expected.held_out.greedy, abs=0.15)
        assert found.adapter_parameters == expected.adapter_parameters
        assert found.base == expected.base, "both score the base policy under the trial's own seed"
        assert (found.base.step, found.base.prompts) == (0, found.held_out.prompts)
        assert 0 < found.base.spread <= 0.5
        assert (found.steps, found.pruned) == (STEPS, False)
        assert set(found.seconds) == {"build", "rollout", "train", "evaluate"}
        lines = re.findall(r"^step \d/4: reward [01]\.\d{3}, \d+% of groups without signal, ", logs[trial], re.M)
        assert len(lines) == STEPS
    assert list((tmp_path / "adapters").iterdir()) == []


def test_a_slot_that_is_freed_takes_the_next_trial_and_nobody_else_notices(make):
    """Five trials on three slots, two of them pruned, against the same without a prune: to rounding."""
    specs = [spec(i, r=(4, 64, 1, 16, 8)[i]) for i in range(5)]
    feed, quiet = Feed(*specs, prune={0: 2, 3: 1}), Feed(*specs)
    make().serve(feed)
    make().serve(quiet)
    assert sorted(feed.results) == list(range(5))
    assert [(feed.results[i].steps, feed.results[i].pruned) for i in range(5)] == [
        (2, True), (4, False), (4, False), (1, True), (4, False),
    ]  # fmt: skip
    assert feed.results[0].held_out.step == 2
    assert feed.news[:6] == [(0, 1), (1, 1), (2, 1), (0, 2), (1, 2), (2, 2)]
    assert feed.news[6:9] == [(3, 1), (1, 3), (2, 3)]
    assert feed.news[9] == (4, 1)
    for number in (1, 2):
        assert rewards(feed, number) == pytest.approx(rewards(quiet, number), abs=0.1)
        assert feed.of(number)[0].reward == quiet.of(number)[0].reward


def test_one_half_of_a_pack_rolls_out_while_the_other_trains(make, vllm_engine, monkeypatch):
    """From the second rollout to the last, each begins before a step of the other half ends and ends after it began."""
    from objectives.learners.packed.step import Stepper

    step, rollouts, steps, overlapped = Stepper.step, threading.Semaphore(0), threading.Semaphore(0), []

    def waits(self, *arguments):
        steps.release()
        if len(overlapped) < 2 * 5:
            overlapped.append(rollouts.acquire(timeout=60))
        return step(self, *arguments)

    class Patient(Engine):
        def answer(self, prompts, *more):
            later = self.trains(prompts) and len(self.training()) > 1
            if later:
                rollouts.release()
            completions = super().answer(prompts, *more)
            if later:
                overlapped.append(steps.acquire(timeout=60))
            return completions

    monkeypatch.setattr(Stepper, "step", waits)
    feed, engine = Feed(*[spec(i) for i in range(4)]), Patient(vllm_engine)
    make(steps=3, slots=4, engine=engine).serve(feed)
    assert overlapped == [True] * 2 * 5
    halves = [{"trial-0000", "trial-0001"}, {"trial-0002", "trial-0003"}]
    assert [{a.name.split("-v")[0] for a in call[1]} for call in engine.training()] == halves * 3


def test_trials_that_are_due_at_once_are_scored_in_one_call_as_each_would_be_alone(make):
    def scoring(slots):
        learner = make(slots=slots)
        learner.serve(Feed(*map(spec, range(4))))
        return [call for call in learner.engine.calls if not learner.engine.trains(call[0])]

    prompts, adapters, _, seeds = scoring(slots=4)[0]
    assert [adapter.name[:10] for adapter in adapters] == ["trial-0000"] * 64 + ["trial-0001"] * 64
    alone = {call[1][0].name[:10]: call for call in reversed(scoring(slots=1)) if call[1][0]}
    for trial in (0, 1):
        own = slice(64 * trial, 64 * trial + 64)
        assert (prompts[own], seeds[own]) == (alone[f"trial-000{trial}"][0], alone[f"trial-000{trial}"][3])


def test_a_base_score_that_is_known_is_not_taken_again(make):
    def base_calls(*specs):
        learner = make(slots=1)
        learner.serve(feed := Feed(*specs))
        return sum(adapters[0] is None for _, adapters, *_ in learner.engine.calls), feed.results[3]

    calls, measured = base_calls(spec(3))
    assert calls == 2, "sampled and greedy"
    calls, told = base_calls(dataclasses.replace(spec(3), base=measured.base))
    assert (calls, told.base) == (0, measured.base)


def test_seconds_that_trials_are_charged_are_those_that_have_passed(make):
    feed, learner = Feed(*[spec(i) for i in range(5)]), make(slots=4)
    began = time.perf_counter()
    learner.serve(feed)
    passed = time.perf_counter() - began
    assert 0.7 * passed < sum(sum(result.seconds.values()) for result in feed.results.values()) <= passed


def test_a_trial_starts_in_a_used_slot_as_in_a_new_one(make):
    later, first = Feed(spec(5, r=64, learning_rate=0.1), spec(0, r=4)), Feed(spec(0, r=4))
    learner = make(slots=1)
    learner.serve(later)
    learner.serve(first)
    assert [m.grad_norm for m in later.of(0)] == [m.grad_norm for m in first.of(0)]
    assert later.results[0].scores == first.results[0].scores


def test_the_base_comes_out_of_it_bit_identical(make, unsloth_policy):
    before = {name: weight.clone() for name, weight in unsloth_policy._base.state_dict().items()}
    make().serve(Feed(spec(0), spec(1)))
    after = unsloth_policy._base.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_several_iterations_end_a_trial_in_the_middle_of_a_round(make):
    feed, learner = Feed(spec(0), spec(1)), make(steps=3, num_iterations=2, beta=0.05)
    learner.serve(feed)
    assert [m.step for m in feed.of(0)] == [1, 3]  # as from TRL: what has no new samples is not reported
    assert [len(list(learner.engine.training_of(number))) for number in (0, 1)] == [2, 2]
    assert feed.results[0].steps == feed.results[1].steps == 3
    assert feed.of(0)[0].kl == pytest.approx(0, abs=1e-6)
    assert feed.of(0)[1].kl > 0


def test_smaller_micro_batches_and_checkpoints_learn_the_same(make, tiny):
    whole, halves, checkpointed = Feed(spec(0), spec(1)), Feed(spec(0), spec(1)), Feed(spec(0), spec(1))
    make(steps=1).serve(whole)
    make(steps=1, micro_batch_size=2).serve(halves)
    make(steps=1, model=tiny.model_copy(update={"gradient_checkpointing": "standard"})).serve(checkpointed)
    for number in (0, 1):
        expected = whole.of(number)[0]
        for feed in (halves, checkpointed):
            assert feed.of(number)[0].reward == expected.reward
            assert feed.of(number)[0].grad_norm == pytest.approx(expected.grad_norm, rel=1e-4)


def test_rollouts_are_corrected_for_the_engine_where_the_study_says_so(make, vllm_engine):
    engine, feed = Engine(vllm_engine), Feed(spec(0), spec(1, r=4))
    make(steps=2, engine=engine, importance_sampling_correction="token_truncate").serve(feed)
    assert all(sampling.logprobs for _, _, sampling, _ in engine.training())
    plain = Feed(spec(0), spec(1, r=4))
    make(steps=2).serve(plain)
    # The engine and the trainer compute the same policy, so that there is little to correct, and yet not nothing.
    assert feed.of(0)[0].loss != plain.of(0)[0].loss
    assert feed.of(0)[0].grad_norm == pytest.approx(plain.of(0)[0].grad_norm, rel=1e-3)


def test_every_step_trains_on_what_its_own_policy_has_sampled(make, monkeypatch):
    """However the halves take turns: what the engine says of a token is what the trainer says before its step."""
    from objectives.learners.packed.step import Stepper

    remember, gaps = Stepper._remember, []

    def spied(self, batch, old, mask, part, sequences):
        remember(self, batch, old, mask, part, sequences)
        gaps.append(((old - batch.sampler_logprobs[:, part]) * mask).abs().max().item())

    monkeypatch.setattr(Stepper, "_remember", spied)
    feed = Feed(*[spec(i, learning_rate=1e-2) for i in range(4)])
    make(slots=4, importance_sampling_correction="token_truncate").serve(feed)
    assert len(gaps) == 2 * STEPS
    assert max(gaps) < 1e-3


def test_learning_rates_go_as_the_study_says(make, monkeypatch):
    from objectives.learners.packed.optimizer import PackedAdamW
    from objectives.learners.trl import TrlLearner

    update, rates = PackedAdamW._update, []

    def spied(self, rows):
        rates.extend(rate(step) for rate, step in zip(self._rates[rows], self.steps[rows], strict=True))
        update(self, rows)

    monkeypatch.setattr(PackedAdamW, "_update", spied)
    make(lr_scheduler_type="linear").serve(Feed(spec(0, learning_rate=4e-3)))
    assert rates == pytest.approx([4e-3, 3e-3, 2e-3, 1e-3])
    solo = make(TrlLearner, lr_scheduler_type="linear")
    assert solo._arguments(spec(0), "folder").lr_scheduler_type == "linear"


def test_vllm_samples_from_an_exported_slot_what_the_slot_itself_computes(unsloth_policy, vllm_engine, tmp_path):
    packed = pack(unsloth_policy._base, TARGET_MODULES, slots=2, r_max=64)
    try:
        adapter = SlotAdapter(packed, 1, LoraSpec(r=5, alpha=16, use_rslora=True), seed=0)
        for module in packed.modules.values():
            module.lora_B.data[1, :, :5] = 0.05 * torch.randn(module.lora_B.shape[1], 5)
        version = AdapterFolder(tmp_path).publish("trial-0", adapter, 5)
        prompt = unsloth_policy.tokenizer("A:abcd>")["input_ids"]
        sampling = Sampling(temperature=1.0, max_tokens=5, logprobs=True)
        completion = vllm_engine.rollout([prompt], [version], sampling, [0])[0]
        tokens = list(completion.token_ids)
        with packed.selected([1]), torch.no_grad():
            logits = packed.model(torch.tensor([prompt + tokens])).logits[0, len(prompt) - 1 : -1]
        with packed.adapters_off(), torch.no_grad():
            base = packed.model(torch.tensor([prompt + tokens])).logits[0, len(prompt) - 1 : -1]
    finally:
        packed.unpack()
    chosen = torch.tensor(tokens).unsqueeze(-1)
    expected = logits.log_softmax(-1).gather(-1, chosen).flatten()
    torch.testing.assert_close(torch.tensor(completion.logprobs), expected, rtol=0, atol=1e-4)
    assert (base - logits).abs().max() > 0.1


def test_prompts_come_in_the_order_that_TRL_draws_them_in():
    from trl.trainer.utils import RepeatSampler

    sampler = RepeatSampler(range(20), mini_repeat_count=4, batch_size=8, repeat_count=3, shuffle=True, seed=7)
    theirs = [list(sampler) for _ in range(3)]
    ours = prompt_order(20, 8, seed=7)
    for epoch in theirs:
        for start in range(0, len(epoch), 8 * 4 * 3):
            assert [i for i in next(ours) for _ in range(4)] * 3 == epoch[start : start + 96]
