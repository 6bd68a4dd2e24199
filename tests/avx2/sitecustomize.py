"""Makes every Python process take its processor for one without AVX-512: what `make test-avx2` puts on the path.

vLLM asks torch which kernels to load. ATEN_CPU_CAPABILITY and ONEDNN_MAX_CPU_ISA say the same to torch's own.
"""

import importlib.abc
import importlib.machinery
import sys


class _MaskedLoader(importlib.abc.Loader):
    def __init__(self, loader):
        self._loader = loader

    def create_module(self, spec):
        return self._loader.create_module(spec)

    def exec_module(self, module):
        self._loader.exec_module(module)
        module._is_avx512_supported = module._is_avx512_bf16_supported = lambda: False


class _MaskedFinder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != "torch.cpu":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        spec.loader = _MaskedLoader(spec.loader)
        return spec


sys.meta_path.insert(0, _MaskedFinder())
