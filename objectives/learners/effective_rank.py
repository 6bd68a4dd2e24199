"""How many of its ranks an adapter uses: the singular values of B A, from products of r x r numbers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import torch
from torch import Tensor

from objectives.trial.messages import EffectiveRank

ENERGY = 0.9
"""Share of the sum of squared singular values that counts as nearly all."""


@torch.no_grad()
def effective_ranks(factors: Mapping[str, tuple[Tensor, Tensor]]) -> dict[str, EffectiveRank]:
    """How many ranks B A uses, by the last part of a module's name, means over layers.

    Modules whose B A is zero are left out. Nothing comes of weights that are not finite, or of which no decomposition
    is found.

    Args:
        factors: A of shape [r, d_in] and B of shape [d_out, r], by the module's name; the same r for all.
    """
    if not factors:
        return {}
    # The squared singular values of B A are the eigenvalues of (A A^T)(B^T B). A thin QR of B and of A^T would tell
    # apart those below 1e-7 of the largest too, which hold no energy, and takes three to five times as long on a CPU.
    grams = torch.stack([gram for A, B in factors.values() for gram in (A @ A.mT, B.mT @ B)])
    of_a, of_b = grams.double().cpu().unflatten(0, (-1, 2)).unbind(1)  # [M, r, r] each
    if not (of_a.isfinite().all() and of_b.isfinite().all()):
        return {}
    try:
        scales, vectors = torch.linalg.eigh(of_a)
        root = vectors * scales.clamp(min=0).sqrt().unsqueeze(-2)
        energies = torch.linalg.eigvalsh(root.mT @ of_b @ root).clamp(min=0).flip(-1)  # [M, r], the largest first
    except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
        return {}  # it did not converge: a figure less, and no trial is lost for it
    by_kind: dict[str, list[EffectiveRank]] = defaultdict(list)
    for name, energy in zip(factors, energies, strict=True):
        total = energy.sum()
        if total > 0:
            held = int((energy.cumsum(0) < ENERGY * total).sum()) + 1
            by_kind[name.rpartition(".")[2]].append(EffectiveRank(stable=float(total / energy[0]), energy=held))
    return {kind: EffectiveRank.mean(own) for kind, own in by_kind.items()}
