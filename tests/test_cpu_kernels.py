"""That each processor gets the kernels built for it, whichever this machine has."""

import subprocess
import sys
from pathlib import Path

import pytest

LOADED = """
import torch

torch.cpu._is_avx512_supported = lambda: {avx512}
torch.cpu._is_avx512_bf16_supported = lambda: {bf16}
import objectives.policies.unsloth
import objectives.engines.vllm
from vllm import _custom_ops

print(sorted({{line.rpartition("/")[2] for line in open("/proc/self/maps").read().splitlines() if "/vllm/_C" in line}}))
assert hasattr(torch.ops._C, "silu_and_mul")
"""


def kernels_loaded(*, avx512: bool, bf16: bool) -> str:
    """Which of vLLM's extensions are in memory once all that a worker imports is imported."""
    code = LOADED.format(avx512=avx512, bf16=bf16)
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert child.returncode == 0, child.stderr[-2000:]
    return child.stdout.strip().splitlines()[-1]


@pytest.mark.slow
def test_processor_without_avx512_gets_avx2_kernels_and_no_other_file_is_opened():
    assert kernels_loaded(avx512=False, bf16=False) == "['_C_AVX2.abi3.so']"


@pytest.mark.slow
@pytest.mark.skipif("avx512f" not in Path("/proc/cpuinfo").read_text(), reason="this processor lacks AVX-512")
def test_processor_with_avx512_but_no_bfloat16_gets_avx512_kernels():
    assert kernels_loaded(avx512=True, bf16=False) == "['_C_AVX512.abi3.so']"
