"""AdamW over a stack of adapters: every slot with its own learning rate, step count and gradient norm."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from objectives.learners.packed.selection import stretches


class PackedAdamW:
    """AdamW (Loshchilov and Hutter, 2019) on weights of shape [K, N], one trial per row, as torch 2.13 computes it.

    Rows never mix: a slot's update is what an optimizer of its own would have done. Bias correction counts each
    slot's own steps, since trials start at different times.
    """

    def __init__(
        self,
        weights: Tensor,
        gradients: Tensor,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        """Starts every slot at step 0 with a learning rate of 0.

        Args:
            weights: Shape [K, N]. Updated in place.
            gradients: Shape [K, N].
            betas: Decay of the first and of the second moment.
            eps: Added to the denominator.
            weight_decay: Decoupled from the gradient, multiplied by the learning rate.
        """
        self.weights, self.gradients = weights, gradients
        self.betas, self.eps, self.weight_decay = betas, eps, weight_decay
        self.first = torch.zeros_like(weights)
        self.second = torch.zeros_like(weights)
        self.steps = [0] * len(weights)
        self.updating = False
        """Whether an update has been begun and not ended: if it failed, weights and moments belong to no step."""
        self._rates: list[Callable[[int], float]] = [lambda _: 0.0] * len(weights)

    def reset(self, k: int, learning_rate: float, schedule: Callable[[int], float] = lambda _: 1.0) -> None:
        """Forgets what slot k's optimizer has seen, for the trial that comes next.

        Args:
            k: The slot.
            learning_rate: The trial's.
            schedule: What it is multiplied by at each of the slot's steps; default: nothing.
        """
        self.first[k] = 0
        self.second[k] = 0
        self.gradients[k] = 0
        self.steps[k] = 0
        self._rates[k] = lambda step: learning_rate * schedule(step)

    def clip(self, max_norm: float, rows: slice = slice(None)) -> Tensor:
        """Scales each of these slots' gradients down to a norm of at most `max_norm`.

        Returns:
            Their norms before.
        """
        gradients = self.gradients[rows]
        norms: Tensor = torch.linalg.vector_norm(gradients, dim=1)
        # The 1e-6 is torch's own, in `clip_grad_norm_`.
        gradients *= (max_norm / (norms + 1e-6)).clamp(max=1.0).unsqueeze(1)
        return norms

    def step(self, slots: Sequence[int]) -> None:
        """Updates these slots and leaves the others, moments included, as they are."""
        # No `finally`: where an update fails the mark has to stay, so that nobody writes a checkpoint of what it left.
        self.updating = True
        # As slices, which are views: an index would copy the rows, and the update in place would be lost.
        for rows in stretches(slots):
            self._update(rows)
        self.updating = False

    def _update(self, rows: slice) -> None:
        (beta1, beta2), grad = self.betas, self.gradients[rows]
        weights, first, second = self.weights[rows], self.first[rows], self.second[rows]
        rates = [rate(count) for rate, count in zip(self._rates[rows], self.steps[rows], strict=True)]
        # Schedules count a slot's steps from 0, bias correction from 1.
        self.steps[rows] = counts = [count + 1 for count in self.steps[rows]]
        if self.weight_decay:
            weights *= self._column([1 - rate * self.weight_decay for rate in rates])
        first.lerp_(grad, 1 - beta1)
        second.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
        denominator = second.sqrt()
        denominator /= self._column([math.sqrt(1 - beta2**count) for count in counts])
        denominator += self.eps
        update = torch.div(first, denominator, out=denominator)
        # torch does this in one `addcdiv_`, whose factor is one number: here every row has its own.
        update *= self._column([rate / (1 - beta1**count) for rate, count in zip(rates, counts, strict=True)])
        weights -= update

    def _column(self, values: Sequence[float]) -> Tensor:
        return torch.tensor(values, dtype=self.weights.dtype, device=self.weights.device).unsqueeze(1)
