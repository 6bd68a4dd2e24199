"""Planned memory against what live engines and trainers allocated, for one tiny random model of each family.

Takes a minute and a half on two cores: seventeen engines of 3 s each after 20 s of imports, all in one process. The
first time on a machine, vLLM inspects each family for 12 s more.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from objectives.errors import ModelConfigError
from objectives.lora import TARGET_MODULES
from objectives.memory.config_files import find_config
from objectives.memory.estimates import four_bit_weight_bytes, kv_cache_bytes, layer_activation_bytes
from objectives.memory.exact import (
    VOCAB_PADDING,
    adapted_modules,
    base_weight_bytes,
    engine_memory,
    textbook_bytes,
    trainer_memory,
)
from objectives.memory.shape import FAMILIES, make_shape, read_shape

COMMON = {
    "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 96, "vocab_size": 100, "max_position_embeddings": 64, "bos_token_id": 1, "eos_token_id": 2,
    "pad_token_id": 0,
}  # fmt: skip
MODELS = {
    "llama": COMMON | {"architectures": ["LlamaForCausalLM"], "head_dim": 32},
    "qwen2": COMMON | {"architectures": ["Qwen2ForCausalLM"]},
    "qwen3": COMMON | {"architectures": ["Qwen3ForCausalLM"]},
    "mistral": COMMON | {"architectures": ["MistralForCausalLM"]},
    "gemma2": COMMON | {"architectures": ["Gemma2ForCausalLM"]},
    "gemma3_text": COMMON | {"architectures": ["Gemma3ForCausalLM"], "head_dim": 32, "num_hidden_layers": 3},
}
"""Grouped-query attention in all; where `head_dim` is unsaid, it is the family's default."""
VARIANTS = {
    "llama_biased": MODELS["llama"] | {"model_type": "llama", "attention_bias": True, "mlp_bias": True},
    "qwen3_biased": MODELS["qwen3"] | {"model_type": "qwen3", "attention_bias": True, "tie_word_embeddings": True},
    "gemma2_untied": MODELS["gemma2"] | {"model_type": "gemma2", "tie_word_embeddings": False},
}
ALL = list(TARGET_MODULES)


def case(family, target_modules, max_lora_rank, max_loras, *, tied, dtype="float32"):
    return {
        "family": family,
        "target_modules": target_modules,
        "max_lora_rank": max_lora_rank,
        "max_loras": max_loras,
        "tied": tied,
        "dtype": dtype,
    }


ENGINES = [
    case("llama", None, 16, 1, tied=False),
    case("llama", None, 8, 4, tied=True, dtype="bfloat16"),
    case("llama", ALL, 8, 4, tied=True),
    case("llama", ["q_proj"], 8, 1, tied=False),
    case("qwen2", None, 8, 4, tied=True),
    case("qwen2", ALL, 16, 1, tied=False, dtype="bfloat16"),
    case("qwen3", None, 16, 1, tied=False),
    case("qwen3", None, 8, 4, tied=True),
    case("qwen3", ALL, 16, 1, tied=False),
    case("mistral", None, 16, 1, tied=False),
    case("mistral", ["up_proj", "o_proj", "embed_tokens", "lm_head"], 8, 4, tied=False),
    case("mistral", ALL, 8, 4, tied=True, dtype="bfloat16"),
    case("gemma2", None, 8, 4, tied=True),
    case("gemma2", ALL, 16, 1, tied=False),
    case("gemma3_text", None, 16, 1, tied=True),
    case("gemma3_text", ALL, 8, 4, tied=True, dtype="bfloat16"),
]
RUNTIME_NAMES = {
    "q_proj": "qkv_proj", "k_proj": "qkv_proj", "v_proj": "qkv_proj",
    "gate_proj": "gate_up_proj", "up_proj": "gate_up_proj", "lm_head": "logits_processor",
}  # fmt: skip
"""What vLLM calls the module that runs ours."""


def by_runtime_name(memory):
    found = {}
    for module in memory.modules:
        name = RUNTIME_NAMES.get(module.name, module.name)
        found[name] = found.get(name, 0) + module.bytes
    return found


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    """What the live models allocated, from one process of their own."""
    folder = tmp_path_factory.mktemp("models")
    for name, config in {**MODELS, **VARIANTS}.items():
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(json.dumps({"model_type": name} | config))
    request = {"engines": ENGINES, "families": list(MODELS), "variants": list(VARIANTS)}
    (folder / "request.json").write_text(json.dumps(request))
    program = [sys.executable, "-m", "tests.support.live_models", str(folder)]
    root = Path(__file__).parent.parent
    done = subprocess.run(program, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder, json.loads((folder / "answer.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("index", range(len(ENGINES)), ids=lambda i: f"{ENGINES[i]['family']}-{i}")
def test_engine_memory_is_what_a_live_engine_allocated_to_the_byte(live, index):
    asked, (_, answer) = ENGINES[index], live
    config = {"model_type": asked["family"], **MODELS[asked["family"]], "tie_word_embeddings": asked["tied"]}
    planned = engine_memory(
        make_shape(config),
        max_lora_rank=asked["max_lora_rank"],
        max_loras=asked["max_loras"],
        dtype=asked["dtype"],
        target_modules=asked["target_modules"],
    )
    assert by_runtime_name(planned) == answer["engines"][index]
    assert planned.bytes == sum(answer["engines"][index].values())


@pytest.mark.slow
def test_this_projects_own_engine_allocates_what_is_planned_for_it(live):
    _, answer = live
    shape = read_shape(find_config("shipped/tiny"))
    planned = engine_memory(shape, max_lora_rank=64, max_loras=4, dtype="float32", target_modules=TARGET_MODULES)
    assert by_runtime_name(planned) == answer["own"]


@pytest.mark.slow
@pytest.mark.parametrize("name", [*MODELS, *VARIANTS])
def test_parameters_are_those_of_the_model_that_transformers_builds(live, name):
    folder, answer = live
    assert read_shape(folder / name / "config.json").parameters == answer["parameters"][name]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", MODELS)
def test_trainer_memory_is_what_a_live_trainer_allocated_to_the_byte(live, family, dtype):
    folder, answer = live
    measured = answer["trained"][family][dtype]
    planned = trainer_memory(read_shape(folder / family / "config.json"), 8)
    assert planned.bytes == sum(measured[name] for name in ("adapter_bytes", "gradient_bytes", "optimizer_bytes"))
    for name in ("parameters", "adapter_bytes", "gradient_bytes", "optimizer_bytes"):
        assert getattr(planned, name) == measured[name]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", MODELS)
def test_the_activation_estimate_is_within_a_fifth_of_what_was_kept(live, family, dtype):
    folder, answer = live
    shape = read_shape(folder / family / "config.json")
    estimate = shape.layers * layer_activation_bytes(shape, dtype, tokens=64)
    assert 0.8 < estimate / answer["trained"][family][dtype]["kept_bytes"] < 1.2


@pytest.mark.slow
def test_the_four_bit_estimate_is_what_bitsandbytes_holds(live):
    shape = read_shape(find_config("unsloth/Llama-3.2-1B-Instruct"))
    quantised = four_bit_weight_bytes(shape, "bfloat16") - 2 * shape.other_parameters()
    held = live[1]["four_bit"] / 2**20
    assert quantised / shape.linear_parameters == pytest.approx(held, rel=1e-4)


def test_every_family_is_tested_against_live_models():
    assert set(MODELS) == set(FAMILIES) == {case["family"] for case in ENGINES}


def test_a_merged_module_is_adapted_whole():
    shape = read_shape(find_config("shipped/tiny"))
    assert adapted_modules(shape, ["k_proj", "gate_proj"]) == ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj")


def test_engine_memory_is_proportional_to_ceiling_and_slots():
    shape = read_shape(find_config("unsloth/Meta-Llama-3.1-8B-Instruct"))
    one = engine_memory(shape, max_lora_rank=1, dtype="bfloat16", target_modules=None).bytes
    assert engine_memory(shape, max_lora_rank=64, max_loras=4, dtype="bfloat16", target_modules=None).bytes == 256 * one


def test_llama_figures_are_those_of_the_published_models():
    small = read_shape(find_config("unsloth/Llama-3.2-1B-Instruct"))
    large = read_shape(find_config("unsloth/Meta-Llama-3.1-8B-Instruct"))
    assert (small.parameters, large.parameters) == (1_235_814_400, 8_030_261_248)
    assert base_weight_bytes(large, "bfloat16") == 2 * 8_030_261_248
    assert textbook_bytes(large, 64, "bfloat16") == 2 * 64 * 4096 * 32 * 2
    assert kv_cache_bytes(large, "bfloat16", tokens=1) == 2 * 32 * 8 * 128 * 2


def test_a_vllm_engine_of_its_own_pads_the_vocabulary():
    shape = make_shape({"model_type": "llama", **MODELS["llama"]})
    padded = base_weight_bytes(shape, "float32", vocab_multiple=VOCAB_PADDING)
    assert padded - base_weight_bytes(shape, "float32") == 2 * 28 * 64 * 4


def test_an_unknown_target_module_is_refused_by_name():
    shape = read_shape(find_config("shipped/tiny"))
    with pytest.raises(ModelConfigError, match=r"'qkv_proj' is not in a llama model; allowed: q_proj, .*, lm_head"):
        engine_memory(shape, max_lora_rank=8, dtype="float32", target_modules=["qkv_proj"])
    with pytest.raises(ModelConfigError, match="'c_attn'"):
        trainer_memory(shape, 8, ["c_attn"])


def test_logits_over_a_vocabulary_that_vllm_refuses_are_refused():
    shape = make_shape({"model_type": "gemma3_text", **MODELS["gemma3_text"], "vocab_size": 262144})
    with pytest.raises(ModelConfigError, match="vocab_size=262144: vLLM adapts logits of at most 258048 tokens"):
        engine_memory(shape, max_lora_rank=8, dtype="bfloat16", target_modules=["q_proj", "lm_head"])
    assert engine_memory(shape, max_lora_rank=8, dtype="bfloat16", target_modules=None).bytes > 0


LLAMA = {"model_type": "llama", **MODELS["llama"]}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (LLAMA | {"model_type": "mixtral"}, "model_type='mixtral' is not planned for; allowed: llama, qwen2, qwen3"),
        (LLAMA | {"model_type": None}, "model_type=None is not planned for"),
        (LLAMA | {"model_type": ["llama"]}, "is not planned for"),
        (LLAMA | {"hidden_size": "64"}, "hidden_size='64'; allowed: whole numbers from 1"),
        (LLAMA | {"num_hidden_layers": 0}, "num_hidden_layers=0; allowed: whole numbers from 1"),
        (LLAMA | {"vocab_size": True}, "vocab_size=True; allowed: whole numbers from 1"),
        (LLAMA | {"num_key_value_heads": 3}, "num_attention_heads=4 is no multiple of num_key_value_heads=3"),
        (LLAMA | {"dtype": "int8"}, "dtype='int8'; allowed: float32, bfloat16, float16"),
        ({k: v for k, v in LLAMA.items() if k != "intermediate_size"}, "intermediate_size is missing"),
    ],
)
def test_a_config_that_cannot_be_planned_for_says_why(config, message):
    with pytest.raises(ModelConfigError) as raised:
        make_shape(config)
    assert message in str(raised.value)


@pytest.mark.parametrize("content", ["", "{", "not json", "\x00", "[" * 100_000])
def test_a_config_that_is_not_json_is_named(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ModelConfigError, match=r"config\.json: not JSON"):
        read_shape(tmp_path / "config.json")


def test_a_config_that_is_no_object_is_named(tmp_path):
    (tmp_path / "config.json").write_text("[1, 2]")
    with pytest.raises(ModelConfigError, match="holds a list; allowed: a JSON object"):
        read_shape(tmp_path / "config.json")
