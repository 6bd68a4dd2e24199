"""Adapters by the LoRA manager that Unsloth puts into vLLM on a card: what they give by vLLM's own."""

import pytest

from tests.spoofed_cuda import card

pytestmark = pytest.mark.spoofed

ADAPTERS = ("base", "r1", "r8", "r64", "one step on")


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What the child process answers."""
    folder = tmp_path_factory.mktemp("lora-manager")
    return card.ask("lora_manager", folder, folder=folder, environment={"OMP_WAIT_POLICY": "passive"})


@pytest.fixture(scope="module")
def given(told):
    """What Unsloth's gave."""
    return told["unsloth"]


def tokens(rollout):
    """What was sampled, alone."""
    return [ids for ids, _ in rollout]


def assert_same(rollout, other):
    """Both sampled the same, at the same log-probabilities."""
    assert tokens(rollout) == tokens(other)
    for (_, logprobs), (_, others) in zip(rollout, other, strict=True):
        assert logprobs == pytest.approx(others, abs=1e-4)


def test_one_engine_is_by_vllms_manager_and_the_other_by_unsloths(told):
    modules = {who: (told[who]["manager"], told[who]["request"]) for who in ("vllm", "unsloth")}
    assert modules == {
        "vllm": ("vllm.lora.worker_manager", "vllm.lora.request"),
        "unsloth": ("unsloth_zoo.vllm_lora_worker_manager", "unsloth_zoo.vllm_lora_request"),
    }


@pytest.mark.parametrize(
    "name", [*ADAPTERS, "r8 once more", "mixed", "one step back", "base after refusals", "with log-probabilities"]
)
def test_a_rollout_is_what_vllms_own_manager_gives(told, name):
    assert_same(told["unsloth"][name], told["vllm"][name])


def test_each_adapter_and_each_of_its_versions_gives_something_else(given):
    assert len({str(tokens(given[name])) for name in ADAPTERS}) == len(ADAPTERS)


def test_one_rollout_serves_several_adapters_and_none(given):
    r1, base, r8, r64 = (given["mixed"][i::4] for i in range(4))
    for rollout, name in zip((r1, base, r8, r64), ("r1", "base", "r8", "r64"), strict=True):
        assert_same(rollout, given[name])


def test_an_adapter_whose_place_another_took_is_loaded_again_and_gives_the_same(told, given):
    assert given["loads"][:4] == ["r1", "r8", "r64", "r8"]
    # Once more each for the mixed rollout, as soon as there is room.
    assert given["loads"].count("r1") == 2
    assert sorted(given["loads"]) == sorted(told["vllm"]["loads"])
    assert_same(given["r8 once more"], given["r8"])


def test_a_new_version_gives_what_its_weights_do_and_no_cached_tokens_of_the_one_before(given):
    assert_same(given["one step on"], given["its twin"])
    assert_same(given["one step back"], given["r8"])


def test_a_rank_above_the_ceiling_is_refused_alike_and_leaves_nothing_behind(told, given):
    assert "128 is greater than max_lora_rank 64" in given["r128"]
    assert given["r128"] == told["vllm"]["r128"]
    assert_same(given["base after refusals"], given["base"])


def test_an_adapter_that_is_not_there_is_an_engine_error(told):
    assert all(told[who]["ghost"].startswith("vLLM failed a rollout: ") for who in ("vllm", "unsloth"))


def test_what_is_sampled_does_not_depend_on_whether_log_probabilities_are_asked_for(told, given):
    """Unsloth has another sampler for completions whose log-probabilities nobody wants: those that score a trial."""
    assert told["second_sampler"]
    assert tokens(given["with log-probabilities"]) == tokens(given["without"])


def test_the_suites_own_tests_of_engines_and_of_the_prefix_cache_pass_by_it(told):
    assert told["tests"].keys() == {"passed"} and told["tests"]["passed"] >= 10
    assert told["loads_in_tests"] >= 10
