"""Calls that only a GPU can run, held against packages' source: it is read, not imported, so any version will do."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Callable, Iterator, Set
from pathlib import Path

import objectives
from objectives.learners.trl_objective import objective_arguments, pair_objective_arguments
from objectives.settings.dpo import DpoSettings
from objectives.settings.learner import TrlSettings

SOURCES = Path(objectives.__file__).parent
Locate = Callable[[str], Path]
"""The folder of a package's source, by its name."""


def installed(package: str) -> Path:
    """The folder of a package in this environment. It is not imported: a CPU may load a stand-in."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise FileNotFoundError(f"no package {package!r} here")
    return Path(spec.origin).parent


def keywords(file: str, callee: str) -> Set[str]:
    """The keyword names of every call of `callee` in a source file of ours."""
    found = set()
    for node in ast.walk(ast.parse((SOURCES / file).read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == callee:
            found |= {keyword.arg for keyword in node.keywords if keyword.arg}
    assert found, f"no call of {callee} in {file}"
    return found


def defined(source: Path, function: str) -> Set[str]:
    """The parameter names of a function, or of a method as `Class.method`."""
    body, names = ast.parse(source.read_text()).body, function.split(".")
    if len(names) == 2:
        body = _class(source, names[0]).body
    node = next(n for n in body if isinstance(n, ast.FunctionDef) and n.name == names[-1])
    return {argument.arg for argument in [*node.args.args, *node.args.kwonlyargs]}


def fields(source: Path, name: str) -> list[str]:
    """The annotated names of a class, in their order: the fields of a dataclass, or of a struct."""
    annotated = [node.target for node in _class(source, name).body if isinstance(node, ast.AnnAssign)]
    return [target.id for target in annotated if isinstance(target, ast.Name)]


def _class(source: Path, name: str) -> ast.ClassDef:
    return next(n for n in ast.parse(source.read_text()).body if isinstance(n, ast.ClassDef) and n.name == name)


def unsloth_loads(locate: Locate) -> Set[str]:
    """What `FastLanguageModel.from_pretrained` lacks."""
    accepted = defined(locate("unsloth") / "models/loader.py", "FastLanguageModel.from_pretrained")
    used = keywords("policies/unsloth.py", "FastLanguageModel.from_pretrained")
    return (used | {"fast_inference", "max_lora_rank", "gpu_memory_utilization"}) - accepted


def unsloth_wraps(locate: Locate) -> Set[str]:
    """What `get_peft_model` lacks."""
    accepted = defined(locate("unsloth") / "models/llama.py", "FastLlamaModel.get_peft_model")
    return keywords("policies/unsloth.py", "FastLanguageModel.get_peft_model") - accepted


def unsloth_keeps_its_engine(locate: Locate) -> Set[str]:
    """The attribute that its engine is looked for in, where it is not set."""
    source = (locate("unsloth") / "models/llama.py").read_text()
    return set() if "model.vllm_engine = llm" in source else {"model.vllm_engine"}


def vllm_starts(locate: Locate) -> Set[str]:
    """What `LLM` lacks: it hands on what it does not know itself."""
    own = defined(locate("vllm") / "entrypoints/llm.py", "LLM.__init__")
    return keywords("engines/vllm.py", "LLM") - own - {*fields(locate("vllm") / "engine/arg_utils.py", "EngineArgs")}


def vllm_samples(locate: Locate) -> Set[str]:
    """What `SamplingParams` and `LLM.generate` lack."""
    params = keywords("engines/vllm.py", "SamplingParams")
    lacking = params - {*fields(locate("vllm") / "sampling_params.py", "SamplingParams")}
    generate = defined(locate("vllm") / "entrypoints/llm.py", "LLM.generate")
    return lacking | (keywords("engines/vllm.py", "self._llm.generate") - generate)


def vllm_takes_adapters(locate: Locate) -> Set[str]:
    """What of an adapter's name, id and path is not at its place."""
    ours = ["lora_name", "lora_int_id", "lora_path"]
    theirs = fields(locate("vllm") / "lora/request.py", "LoRARequest")[:3]
    return {name for name, other in zip(ours, theirs, strict=True) if name != other}


def trl_is_configured(locate: Locate) -> Set[str]:
    """What `GRPOConfig` lacks."""
    accepted = _configuration(locate, "trainer/grpo_config.py", "GRPOConfig")
    return (keywords("learners/trl.py", "GRPOConfig") | objective_arguments(TrlSettings()).keys()) - accepted


def trl_is_configured_for_pairs(locate: Locate) -> Set[str]:
    """What `DPOConfig` lacks."""
    accepted = _configuration(locate, "trainer/dpo_config.py", "DPOConfig")
    stated = pair_objective_arguments(DpoSettings(name="dpo"))
    return (keywords("learners/dpo.py", "DPOConfig") | stated.keys()) - accepted


def _configuration(locate: Locate, file: str, name: str) -> Set[str]:
    """What one of TRL's configurations takes, its own and what it inherits."""
    accepted = {*fields(locate("trl") / file, name)}
    accepted |= {*fields(locate("trl") / "trainer/base_config.py", "_BaseConfig")}
    return accepted | {*fields(locate("transformers") / "training_args.py", "TrainingArguments")}


def trl_trains(locate: Locate) -> Set[str]:
    """What `GRPOTrainer` lacks."""
    accepted = defined(locate("trl") / "trainer/grpo_trainer.py", "GRPOTrainer.__init__")
    return keywords("learners/trl.py", "GRPOTrainer") - accepted


def trl_trains_on_pairs(locate: Locate) -> Set[str]:
    """What `DPOTrainer` lacks, and what it would have to log for our metrics."""
    source = locate("trl") / "trainer/dpo_trainer.py"
    logged = {f"rewards/{name}" for name in ("accuracies", "margins", "chosen", "rejected")}
    return (keywords("learners/dpo.py", "DPOTrainer") - defined(source, "DPOTrainer.__init__")) | {
        name for name in logged if f'"{name}"' not in source.read_text()
    }


CONTRACTS: dict[str, Callable[[Locate], Set[str]]] = {
    "unsloth: loading a model": unsloth_loads,
    "unsloth: wrapping it": unsloth_wraps,
    "unsloth: where its engine is": unsloth_keeps_its_engine,
    "vllm: starting": vllm_starts,
    "vllm: sampling": vllm_samples,
    "vllm: adapters": vllm_takes_adapters,
    "trl: configuring": trl_is_configured,
    "trl: training": trl_trains,
    "trl: configuring for pairs": trl_is_configured_for_pairs,
    "trl: training on pairs": trl_trains_on_pairs,
}
"""What is called, and how to find what of it is missing. The package is what stands before the colon."""


def broken(locate: Locate, packages: Set[str]) -> Iterator[str]:
    """One line for each contract that some packages' source breaks."""
    for name, contract in CONTRACTS.items():
        if name.partition(":")[0] not in packages:
            continue
        try:
            lacking = contract(locate)
        except (OSError, StopIteration, SyntaxError, ValueError) as error:
            yield f"{name}: not where it was ({type(error).__name__}: {error})"
        else:
            if lacking:
                yield f"{name}: lacks {', '.join(sorted(lacking))}"
