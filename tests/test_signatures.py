"""Every call that only a GPU can run, checked against the signatures of the installed packages."""

import ast
import importlib.util
import inspect
import re
from pathlib import Path

import objectives
from objectives.learners.trl_objective import objective_arguments
from objectives.settings.learner import TrlSettings

SOURCES = Path(objectives.__file__).parent


def keywords(file, callee):
    """The keyword names of every call of `callee` in a source file."""
    found = set()
    for node in ast.walk(ast.parse((SOURCES / file).read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == callee:
            found |= {keyword.arg for keyword in node.keywords if keyword.arg}
    assert found, f"no call of {callee} in {file}"
    return found


def defined(package, file, function):
    """The parameter names of a function or method, read from the installed source: a CPU may load a stand-in."""
    source = Path(importlib.util.find_spec(package).origin).parent / file
    tree, names = ast.parse(source.read_text()), function.split(".")
    if len(names) == 2:
        tree = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == names[0])
    node = next(n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == names[-1])
    return {argument.arg for argument in [*node.args.args, *node.args.kwonlyargs]}


def test_unsloth_loads_a_model_by_the_names_we_use():
    accepted = defined("unsloth", "models/loader.py", "FastLanguageModel.from_pretrained")
    assert keywords("policies/unsloth.py", "FastLanguageModel.from_pretrained") <= accepted
    assert {"fast_inference", "max_lora_rank", "gpu_memory_utilization"} <= accepted


def test_unsloths_engine_is_told_what_it_takes(tiny, unsloth_policy):
    from objectives.policies.unsloth import engine_arguments

    accepted = defined("unsloth_zoo", "vllm_utils.py", "load_vllm")
    told = engine_arguments(tiny, 256)
    assert told.keys() <= accepted
    assert told == {"max_num_batched_tokens": 8192, "max_num_seqs": 257}
    assert engine_arguments(tiny, 512)["max_num_seqs"] == 512
    loader = Path(importlib.util.find_spec("unsloth").origin).parent / "models" / "loader.py"
    assert told.keys() <= set(
        re.findall(r'"(\w+)"', loader.read_text().split("_VLLM_ENGINE_KWARGS = (")[1].split(")")[0])
    )


def test_unsloth_wraps_a_model_by_the_names_we_use():
    used = keywords("policies/unsloth.py", "FastLanguageModel.get_peft_model")
    assert used <= defined("unsloth", "models/llama.py", "FastLlamaModel.get_peft_model")
    assert used == {
        "r", "target_modules", "lora_alpha", "lora_dropout", "bias", "use_gradient_checkpointing", "random_state",
        "use_rslora",
    }  # fmt: skip


def test_unsloths_own_engine_is_where_we_look_for_it():
    source = Path(importlib.util.find_spec("unsloth").origin).parent / "models" / "llama.py"
    assert "model.vllm_engine = llm" in source.read_text()


def test_vllm_starts_by_the_names_we_use():
    from vllm import LLM, EngineArgs

    accepted = {*inspect.signature(LLM.__init__).parameters, *inspect.signature(EngineArgs).parameters}
    assert keywords("engines/vllm.py", "LLM") <= accepted


def test_vllm_samples_by_the_names_we_use():
    from vllm import LLM, SamplingParams
    from vllm.lora.request import LoRARequest

    assert keywords("engines/vllm.py", "SamplingParams") <= set(inspect.signature(SamplingParams).parameters)
    assert keywords("engines/vllm.py", "self._llm.generate") <= set(inspect.signature(LLM.generate).parameters)
    assert list(inspect.signature(LoRARequest).parameters)[:3] == ["lora_name", "lora_int_id", "lora_path"]


def test_trl_is_configured_by_the_names_we_use(unsloth_policy):
    from trl import GRPOConfig

    accepted = set(inspect.signature(GRPOConfig).parameters)
    assert keywords("learners/trl.py", "GRPOConfig") | objective_arguments(TrlSettings()).keys() <= accepted
    accepted = defined("trl", "trainer/grpo_trainer.py", "GRPOTrainer.__init__")
    assert keywords("learners/trl.py", "GRPOTrainer") <= accepted
