"""A CUDA card that is not there: torch, on a processor, answers as if it had one, and computes on the processor.

Called before anything imports Unsloth, which then takes its branch for GPUs. What would run on the card runs on the
processor's memory: a device that says `cuda` is read as `cpu`. Triton's kernels, which have no such second place, are
run by Triton's own interpreter.
"""

import contextlib
import functools
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

ROOT = Path(__file__).parents[2]
ANSWER = "ANSWER "
CAPABILITY = (8, 9)
"""Ada, as an RTX 4090: it computes bfloat16."""


def insert(memory_gib: int) -> None:
    """Makes torch believe in one card of so much memory.

    Args:
        memory_gib: 24 or 80, say.
    """
    os.environ["TRITON_INTERPRET"] = "1"
    # Whose threads would not see how devices are read here.
    os.environ["HF_DEACTIVATE_ASYNC_LOAD"] = "1"
    # What would be compiled for the card is run as it stands.
    os.environ["TORCHDYNAMO_DISABLE"] = "1"
    os.environ["UNSLOTH_COMPILE_DISABLE"] = "1"
    # As root, Unsloth runs ldconfig where it does not find CUDA's libraries.
    os.geteuid = lambda: 1000
    import torch

    total = memory_gib * 2**30
    card = SimpleNamespace(
        name="NVIDIA of air", major=CAPABILITY[0], minor=CAPABILITY[1], total_memory=total, multi_processor_count=128,
        warp_size=32, shared_memory_per_block_optin=101376, regs_per_multiprocessor=65536, L2_cache_size=72 * 2**20,
        max_threads_per_multi_processor=1536, shared_memory_per_multiprocessor=102400, gcnArchName="",
        shared_memory_per_block=49152, is_integrated=0, uuid="GPU-of-air", pci_bus_id=1,
    )  # fmt: skip
    answers = {
        "is_available": True, "device_count": 1, "current_device": 0, "is_initialized": True, "is_bf16_supported": True,
        "get_device_capability": CAPABILITY, "get_device_name": card.name, "get_device_properties": card,
        "mem_get_info": (total, total), "memory_allocated": 0, "memory_reserved": 0, "max_memory_allocated": 0,
        "max_memory_reserved": 0, "reset_peak_memory_stats": None, "synchronize": None, "empty_cache": None,
        "ipc_collect": None, "set_device": None, "init": None, "_lazy_init": None, "manual_seed": None,
        "manual_seed_all": None, "get_arch_list": ["sm_89"], "is_current_stream_capturing": False, "memory_stats": {},
        "get_rng_state": torch.ByteTensor(), "get_rng_state_all": [], "set_rng_state": None, "set_rng_state_all": None,
        "current_stream": _Stream(), "default_stream": _Stream(),
    }  # fmt: skip
    for name, answer in answers.items():
        setattr(torch.cuda, name, functools.partial(_answer, answer))
    torch.cuda.Stream, torch.cuda.Event = _Stream, _Stream
    torch.cuda.stream = torch.cuda.device = _Place
    torch._C._cuda_getCurrentRawStream = lambda index=0: 0
    torch.version.cuda = "13.0"
    _read_cuda_as_cpu(torch)


def _answer(answer, *_, **__):
    return answer


class _Stream:
    """A stream or event: everything on it is done already."""

    cuda_stream = 0
    device = 0

    def __init__(self, *_, **__):
        pass

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *_, **__: None


class _Place(contextlib.nullcontext):
    """Being on a device or a stream."""

    idx = 0

    def __init__(self, *_):
        super().__init__()


def _read_cuda_as_cpu(torch):
    """Has every call of torch that names a `cuda` device name the processor instead."""
    from torch.overrides import TorchFunctionMode

    def here(value):
        if isinstance(value, torch.device):
            return torch.device("cpu") if value.type == "cuda" else value
        return "cpu" if isinstance(value, str) and value.partition(":")[0] == "cuda" else value

    device_of, on_card = torch.Tensor.device.__get__, torch.Tensor.is_cuda.__get__

    class OnTheProcessor(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            if func is torch.Tensor.cuda:
                return args[0]
            if func == device_of:  # made anew at each look
                found = func(*args)
                return torch.device("cuda", 0) if found.type == "cpu" else found
            if func == on_card:
                return func(*args) or device_of(args[0]).type == "cpu"
            if func is torch.Tensor.to and len(args) > 1 and type(args[1]) is int:
                args = (args[0], "cpu", *args[2:])
            if func is torch.device:
                return func(*(("cuda", *args) if type(args[0]) is int else args), **(kwargs or {}))
            named = {name: here(value) for name, value in (kwargs or {}).items()}
            named.pop("pin_memory", None)
            if type(named.get("device")) is int:
                named["device"] = "cpu"
            return func(*map(here, args), **named)

    OnTheProcessor().__enter__()
    # Autocast for the card is autocast for what stands in for it, too.
    enter, leave = torch.autocast.__enter__, torch.autocast.__exit__

    def enter_both(self):
        if self.device == "cuda":
            self.on_processor = torch.autocast("cpu", dtype=self.fast_dtype, enabled=self._enabled)
            enter(self.on_processor)
        return enter(self)

    def leave_both(self, *error):
        left = leave(self, *error)
        if self.device == "cuda":
            leave(self.on_processor, *error)
        return left

    torch.autocast.__enter__, torch.autocast.__exit__ = enter_both, leave_both


def answer(value):
    """Tells the parent process, by a line that nothing else prints."""
    print(f"\n{ANSWER}{json.dumps(value)}", flush=True)


def ask(module, *arguments, folder, given="", environment=()):
    """Runs one of this folder's modules in a process of its own; what it answers."""
    names = {"UNSLOTH_COMPILE_LOCATION": str(folder / "unsloth"), "HF_HUB_OFFLINE": "1", "TMPDIR": str(folder)}
    command = [sys.executable, "-m", f"tests.spoofed_cuda.{module}", *map(str, arguments)]
    names |= dict(environment)
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | names, input=given, capture_output=True, text=True, check=False, timeout=600
    )
    lines = [line.removeprefix(ANSWER) for line in done.stdout.splitlines() if line.startswith(ANSWER)]
    assert done.returncode == 0 and len(lines) == 1, f"{done.stdout[-3000:]}\n{done.stderr[-6000:]}"
    return json.loads(lines[0])
