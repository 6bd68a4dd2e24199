"""What vLLM is started with on a card: the study's figures, whatever Unsloth makes of free memory."""

import shutil

import pytest

from objectives.memory.config_files import find_config
from tests.spoofed_cuda import card

pytestmark = pytest.mark.spoofed


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What the child process answers; its user has standby on, and attention merged into the engine's base."""
    folder = tmp_path_factory.mktemp("engine")
    shutil.copy(find_config("unsloth/Llama-3.2-1B-Instruct"), folder / "config.json")
    environment = {"UNSLOTH_VLLM_STANDBY": "1", "UNSLOTH_VLLM_MERGED_ROLLOUT": "attention"}
    return card.ask("engine", folder, folder=folder, environment=environment)


@pytest.mark.parametrize("memory_gib", [24, 80])
def test_the_engine_runs_as_many_sequences_as_the_study_asks_for(told, memory_gib):
    started = {asked: told["started"][f"{memory_gib} {asked}"]["max_num_seqs"] for asked in (None, 64, 256, 512)}
    # Unsloth's own choice shows that the card's memory counts where nothing is asked for.
    assert started == {None: {24: "48", 80: "96"}[memory_gib], 64: "64", 256: "257", 512: "512"}


@pytest.mark.parametrize("memory_gib", [24, 80])
def test_the_engine_has_the_studys_share_of_memory_and_never_sleeps(told, memory_gib):
    for asked in (None, 64, 256, 512):
        arguments = told["started"][f"{memory_gib} {asked}"]
        assert (arguments["gpu_memory_utilization"], arguments["enable_sleep_mode"]) == ("0.5", "False")
        assert (arguments["max_model_len"], arguments["max_num_batched_tokens"]) == ("1024", "8192")
        assert (arguments["max_lora_rank"], arguments["dtype"]) == ("64", "torch.bfloat16")


def test_the_engine_serves_whatever_module_an_adapter_is_on(told):
    assert not any("lora_target_modules" in arguments for arguments in told["started"].values())


def test_log_probabilities_are_those_of_what_was_sampled_from(told):
    assert {arguments["logprobs_mode"] for arguments in told["started"].values()} == {"processed_logprobs"}


def test_a_base_in_float32_is_refused_in_one_line(told):
    assert told["float32"].startswith("model.dtype='float32' is not served by Unsloth's engine")


def test_the_process_tells_no_usage_statistics_and_keeps_a_graph_for_every_rank(told):
    assert told["usage_statistics"] == "1"
    assert told["graphs"] == 256
