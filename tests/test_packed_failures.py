"""Packed trials when something goes wrong: whose fault it is, who goes on, and what memory running short does."""

import threading
import time

import pytest
import torch

from objectives.errors import EngineError, PolicyError, RewardError, TaskError
from objectives.learners.packed.learner import PackedLearner
from objectives.learners.packed.linear import PackedLoraLinear
from objectives.settings.sections import BudgetSettings
from tests.support.packed_trials import Engine, Feed, learners, spec


@pytest.fixture
def make(tiny, unsloth_policy, vllm_engine, tmp_path):
    return learners(model=tiny, policy=unsloth_policy, vllm_engine=vllm_engine, folder=tmp_path)


def test_a_reward_that_raises_is_told_in_the_trials_log_and_ends_the_worker(make, tmp_path):
    def broken(prompts, completions, answer, **columns):
        return [1.0 / 0 for _ in completions]

    feed = Feed(spec(0), spec(1))
    with pytest.raises(RewardError):
        make(reward=broken).serve(feed)
    assert "reward broken raised ZeroDivisionError" in str(feed.failures[0])
    assert "in broken" in (tmp_path / "logs" / "trial-0000.log").read_text()
    assert 1 not in feed.failures
    assert list((tmp_path / "adapters").iterdir()) == []


def test_a_reward_that_raises_on_held_out_prompts_is_told_too(make, tmp_path):
    def broken(prompts, completions, answer, **columns):
        return [1.0 / (64 - len(completions)) for _ in completions]  # 64 are held out, 32 a step

    feed = Feed(spec(0), spec(1))
    with pytest.raises(RewardError):
        make(reward=broken).serve(feed)
    assert "reward broken raised ZeroDivisionError" in str(feed.failures[0])
    assert "in broken" in (tmp_path / "logs" / "trial-0000.log").read_text()
    assert feed.results == {} and list(feed.failures) == [0]


def test_a_reward_without_memory_is_the_rewards_affair_and_no_reason_for_smaller_packs(make):
    def hungry(prompts, completions, answer, **columns):
        raise MemoryError

    feed = Feed(*[spec(i) for i in range(3)])
    with pytest.raises(RewardError):
        make(reward=hungry, slots=2).serve(feed)
    assert list(feed.failures) == [0]


def test_nothing_is_taken_from_under_a_rollout_that_is_still_under_way(make, vllm_engine):
    raised = threading.Event()

    def broken(prompts, completions, answer, **columns):
        raised.set()
        return [1.0 / 0 for _ in completions]

    class Slow(Engine):
        """Ends its second rollout some time after the first one's reward has failed."""

        ended = 0

        def answer(self, *request):
            if len(self.calls) > 1:
                assert raised.wait(60)
                time.sleep(0.5)
            completions = super().answer(*request)
            self.ended += 1
            return completions

    engine = Slow(vllm_engine)
    with pytest.raises(RewardError):
        make(reward=broken, engine=engine).serve(Feed(spec(0), spec(1)))
    assert engine.ended == 2


def test_a_trial_that_no_slot_can_hold_fails_alone(make, tmp_path):
    feed = Feed(spec(0, r=128), spec(1))
    make(steps=1).serve(feed)
    assert isinstance(feed.failures[0], PolicyError)
    assert "r=128 exceeds the pack's ceiling of 64" in (tmp_path / "logs" / "trial-0000.log").read_text()
    assert 1 in feed.results


def test_an_adapter_that_the_engine_refuses_fails_its_own_trial_only(make, vllm_engine):
    feed = Feed(spec(0), spec(1), spec(2))
    make(steps=2, engine=Engine(vllm_engine, refuses="trial-0001")).serve(feed)
    assert str(feed.failures[1]) == "no trial-0001 here"
    assert sorted(feed.results) == [0, 2]


def test_an_error_of_nobody_in_particular_fails_those_it_hit_and_the_worker_goes_on(make, monkeypatch):
    from objectives.learners.packed.step import Stepper

    step, calls = Stepper.step, []

    def fails_once(self, *arguments):
        calls.append(arguments)
        if len(calls) == 1:
            raise RuntimeError("out of luck")
        return step(self, *arguments)

    monkeypatch.setattr(Stepper, "step", fails_once)
    feed = Feed(*[spec(i) for i in range(5)])
    make(steps=1, slots=4).serve(feed)
    assert {i: str(error) for i, error in feed.failures.items()} == dict.fromkeys(range(2), "out of luck")
    assert sorted(feed.results) == [2, 3, 4]


TOLD = "out of memory with 4 trials at once; 2 from here on"


def out_of_memory():
    """As vLLM reports it: an error of the engine's, caused by torch's."""
    error = EngineError("vLLM failed a rollout")
    error.__cause__ = torch.OutOfMemoryError("CUDA out of memory")
    return error


def rerun_with_two(feed, tmp_path):
    """Whether the first four trials were told to run again, and the next two ended."""
    assert {i: str(told) for i, told in feed.failures.items()} == dict.fromkeys(range(4), TOLD)
    assert all(told.kind == "memory" and told.again for told in feed.failures.values())
    assert "CUDA out of memory" in (tmp_path / "logs" / "trial-0000.log").read_text()
    return sorted(feed.results) == [4, 5]


def test_where_memory_runs_short_half_as_many_trials_go_on(make, monkeypatch, unsloth_policy, tmp_path):
    from objectives.learners.packed.step import Stepper

    step, sizes = Stepper.step, []

    def crowded(self, slots, *arguments):
        sizes.append(len(slots))
        if self.pack.slots > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return step(self, slots, *arguments)

    monkeypatch.setattr(Stepper, "step", crowded)
    feed = Feed(*[spec(i) for i in range(6)])
    make(steps=2, slots=4).serve(feed)
    assert sizes == [2, 1, 1, 1, 1]
    assert rerun_with_two(feed, tmp_path)
    assert not any(isinstance(module, PackedLoraLinear) for module in unsloth_policy.base.modules())


@pytest.mark.parametrize("when", ["sampling", "scoring"])
def test_an_engine_that_runs_out_of_memory_halves_the_pack_too(make, vllm_engine, tmp_path, when):
    class Crowded(Engine):
        def answer(self, prompts, adapters, *more):
            packed = len({adapter.name for adapter in adapters if adapter is not None}) > 1
            if packed if when == "sampling" else not self.trains(prompts) and len(self.training()) == 2:
                raise out_of_memory()
            return super().answer(prompts, adapters, *more)

    feed = Feed(*[spec(i) for i in range(6)])
    make(steps=2, slots=4, engine=Crowded(vllm_engine)).serve(feed)
    assert rerun_with_two(feed, tmp_path)


def test_a_trial_that_finds_no_room_in_its_slot_is_run_again_and_so_are_its_neighbours(make, monkeypatch, tmp_path):
    from objectives.learners.packed import trial_run as module

    made, numbers = module.SlotAdapter, []

    def crowded(*arguments, **options):
        numbers.append(options["seed"])
        if len(numbers) == 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return made(*arguments, **options)

    monkeypatch.setattr(module, "SlotAdapter", crowded)
    feed = Feed(*[spec(i) for i in range(6)])
    make(steps=1, slots=4).serve(feed)
    assert rerun_with_two(feed, tmp_path)


def test_one_trial_that_memory_is_too_short_for_fails_for_good(make, monkeypatch):
    from objectives.learners.packed.step import Stepper

    def crowded(self, slots, *arguments):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Stepper, "step", crowded)
    feed = Feed(spec(0))
    make(steps=2, slots=1).serve(feed)
    assert isinstance(feed.failures[0], torch.OutOfMemoryError)


def test_one_trial_that_finds_no_room_in_the_only_slot_fails_for_good_and_the_next_one_runs(
    make, monkeypatch, tmp_path
):
    from objectives.learners.packed import trial_run as module

    made = module.SlotAdapter

    def crowded(*arguments, **options):
        if options["seed"] == 0:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return made(*arguments, **options)

    monkeypatch.setattr(module, "SlotAdapter", crowded)
    feed = Feed(spec(0), spec(1))
    make(steps=1, slots=1).serve(feed)
    assert isinstance(feed.failures[0], torch.OutOfMemoryError)
    assert "CUDA out of memory" in (tmp_path / "logs" / "trial-0000.log").read_text()
    assert list(feed.results) == [1]


def test_a_step_that_failed_half_way_leaves_nothing_to_the_next_trial(make, monkeypatch):
    from objectives.learners.packed.step import Stepper

    fresh, feed = Feed(spec(1)), Feed(spec(0), spec(1))
    make(steps=1, slots=1, micro_batch_size=16).serve(fresh)
    backward, calls = Stepper._backward, []

    def fails_once(self, *arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise RuntimeError("out of luck")
        return backward(self, *arguments)

    monkeypatch.setattr(Stepper, "_backward", fails_once)
    make(steps=1, slots=1, micro_batch_size=16).serve(feed)
    assert str(feed.failures[0]) == "out of luck"
    assert feed.of(1)[0].grad_norm == fresh.of(1)[0].grad_norm


def test_a_pack_that_does_not_even_fit_by_itself_is_halved_before_any_trial(make, monkeypatch):
    from objectives.learners.packed import learner as module

    made = module.PackedAdamW

    def crowded(weights, gradients, **options):
        if len(weights) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return made(weights, gradients, **options)

    monkeypatch.setattr(module, "PackedAdamW", crowded)
    feed = Feed(spec(0), spec(1))
    make(steps=1, slots=4).serve(feed)
    assert feed.failures == {} and sorted(feed.results) == [0, 1]


def test_a_loss_that_is_not_finite_is_reported_and_not_raised(make):
    feed = Feed(spec(0, learning_rate=float("inf")), spec(1))
    make(steps=3).serve(feed)
    assert feed.failures == {}
    assert not all(torch.isfinite(torch.tensor([m.loss for m in feed.of(0)])))
    assert all(torch.isfinite(torch.tensor([m.loss for m in feed.of(1)])))


def test_too_few_prompts_are_an_error_before_any_trial(make):
    learner = make(steps=1)
    budget = BudgetSettings(steps=1, prompts_per_step=21, group_size=2)
    settings = learner._settings.model_copy(update={"budget": budget})
    with pytest.raises(TaskError, match=r"has 20 training prompts; budget\.prompts_per_step=21"):
        PackedLearner(settings=settings, loaded=learner._loaded, adapters=learner._adapters, slots=1)
