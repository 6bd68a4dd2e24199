"""A child process: rollouts with adapters by vLLM's own LoRA manager, then by the one that Unsloth puts in its place.

It needs no card: what Unsloth changes in vLLM is changed in vLLM's engine for processors, which then samples.

python -m tests.spoofed_cuda.lora_manager FOLDER > rollouts.json
"""

import importlib
import sys
from pathlib import Path

import objectives.policies.unsloth  # noqa: F401

import pytest
import torch
import vllm.lora.request
import vllm.v1.worker.lora_model_runner_mixin as runner
from unsloth_zoo.vllm_utils import patch_vllm
from vllm.v1.sample.sampler import Sampler

from objectives.engines import vllm as engines
from objectives.engines.adapter_files import AdapterFolder, AdapterVersion
from objectives.engines.protocol import Sampling
from objectives.errors import EngineError
from objectives.lora import LoraSpec
from objectives.models.make_random import make_random_model
from objectives.policies.peft import PeftPolicy
from objectives.settings.sections import ModelSettings
from tests.spoofed_cuda import card

FOLDER = Path(sys.argv[1])
TESTS = ("tests/test_engines.py", "tests/test_prefix_cache.py")
MODEL = ModelSettings(
    name=str(make_random_model(FOLDER / "model")), max_lora_rank=64, dtype="float32", max_seq_length=512,
    gpu_memory_utilization=0.1, gradient_checkpointing="off",
)  # fmt: skip
SEQUENCES = 8
GREEDY = Sampling(temperature=0.0, max_tokens=8, logprobs=True)


def start_as_unsloth_does():
    """An engine with what Unsloth tells vLLM on a card, as `tests.spoofed_cuda.engine` records it."""
    llm = engines.LLM(
        model=MODEL.path, dtype=MODEL.number_format, enable_lora=True, max_lora_rank=64, max_loras=1,
        max_model_len=MODEL.max_seq_length, max_num_seqs=SEQUENCES, max_num_batched_tokens=MODEL.batched_tokens,
        gpu_memory_utilization=MODEL.gpu_memory_utilization, logprobs_mode="processed_logprobs", max_logprobs=0,
        enable_prefix_caching=True, enable_chunked_prefill=True, disable_log_stats=True, seed=0,
        enforce_eager=True,
    )  # fmt: skip
    return engines.VllmEngine(llm, max_lora_rank=64)


class Script:
    """What is asked of an engine, and what it gave."""

    def __init__(self, engine, folder):
        self.engine, self.folder, self.given, self.loads = engine, AdapterFolder(folder), {}, []
        manager = runner.LRUCacheWorkerLoRAManager
        self.given["manager"], self.given["request"] = manager.__module__, engines.LoRARequest.__module__
        load = manager._load_adapter

        def seen(own, request):
            self.loads.append(request.lora_name.partition("-v")[0])
            return load(own, request)

        manager._load_adapter = seen
        block = engine._llm.llm_engine.vllm_config.cache_config.block_size
        # So long that the prefix cache has blocks of it.
        self.prompts = [[5 + (i * k) % 250 for i in range(3 * block)] for k in (1, 3)]

    def publish(self, r, *, seed=0, owner=None):
        """An adapter of this rank with weights of this seed."""
        model = policy.build(LoraSpec(r=r, alpha=4 * r), seed=seed)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if "lora_B" in name:
                    weight.copy_(0.3 * torch.randn(weight.shape, generator=generator))
        version = self.folder.publish(owner or f"r{r}", model, r)
        policy.release()
        return version

    def roll(self, name, *adapters, sampling=GREEDY):
        """Samples from every prompt with every adapter."""
        asked = [(prompt, adapter) for prompt in self.prompts for adapter in adapters]
        given = self.engine.rollout(*map(list, zip(*asked, strict=True)), sampling, range(len(asked)))
        self.given[name] = [[list(completion.token_ids), completion.logprobs] for completion in given]

    def refuse(self, name, adapter):
        """What the engine says to an adapter that it cannot serve."""
        try:
            self.roll(name, adapter)
        except EngineError as error:
            self.given[name] = str(error)

    def play(self):
        """Asks."""
        ranks = {r: self.publish(r) for r in (1, 8, 64)}
        self.roll("base", None)
        for r, version in ranks.items():
            self.roll(f"r{r}", version)
        # There is room for one adapter: each takes the place of the one before.
        self.roll("r8 once more", ranks[8])
        self.roll("mixed", ranks[1], None, ranks[8], ranks[64])
        self.roll("one step on", self.publish(8, seed=1))
        self.roll("its twin", self.publish(8, seed=1, owner="twin"))
        self.roll("one step back", self.publish(8, seed=0))
        self.refuse("r128", self.publish(128))
        self.refuse("ghost", AdapterVersion(id=10**6, name="ghost", path=FOLDER / "ghost", r=8))
        self.roll("base after refusals", None)
        warm = {"temperature": 0.7, "max_tokens": 8}
        adapter = self.publish(64, owner="warm")
        self.roll("with log-probabilities", adapter, None, sampling=Sampling(**warm, logprobs=True))
        self.roll("without", adapter, None, sampling=Sampling(**warm))
        self.engine.close()
        return self.given | {"loads": list(self.loads)}


class Outcomes:
    """A plugin of pytest's that counts."""

    def __init__(self):
        self.counts = {}

    def pytest_runtest_logreport(self, report):
        """Counts a test once it has been called; or one that could not be."""
        if report.when == "call" or not report.passed:
            self.counts[report.outcome] = self.counts.get(report.outcome, 0) + 1


policy = PeftPolicy(MODEL)
own = engines.VllmEngine.start(MODEL, max_lora_rank=64, max_num_seqs=SEQUENCES)
told = {"vllm": Script(own, FOLDER / "vllm").play()}
patch_vllm(debug=False)
# A worker on a card imports it when Unsloth has done this.
importlib.reload(engines)
assert engines.LoRARequest is vllm.lora.request.LoRARequest
script = Script(start_as_unsloth_does(), FOLDER / "unsloth")
told["unsloth"], outcomes = script.play(), Outcomes()
script.loads.clear()
pytest.main([*TESTS, "-k", "not transformers", "-p", "no:cacheprovider"], plugins=[outcomes])
told |= {"tests": outcomes.counts, "loads_in_tests": len(script.loads)}
card.answer(told | {"second_sampler": hasattr(Sampler.forward, "_unsloth_processed_fast_path")})
