"""AdamW over slots against torch's own, a slot at a time."""

import torch

from objectives.learners.packed.optimizer import PackedAdamW

RATES = (1e-2, 3e-3, 0.1)


def start(slots=3, size=11, **options):
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(slots, size, generator=generator, dtype=torch.float64)
    optimizer = PackedAdamW(weights.clone(), torch.zeros_like(weights), **options)
    for k in range(slots):
        optimizer.reset(k, RATES[k])
    return weights, optimizer, generator


def solo(weights, k, gradients, *, max_norm=None, **options):
    """What torch does to one slot alone."""
    parameter = torch.nn.Parameter(weights[k].clone())
    adamw = torch.optim.AdamW([parameter], lr=RATES[k], **{"weight_decay": 0.0, **options})
    for gradient in gradients:
        parameter.grad = gradient[k].clone()
        if max_norm is not None:
            torch.nn.utils.clip_grad_norm_([parameter], max_norm)
        adamw.step()
    return parameter.detach()


def test_every_slot_is_updated_as_by_an_optimizer_of_its_own():
    for options in ({}, {"weight_decay": 0.1}, {"betas": (0.8, 0.95), "eps": 1e-6}):
        weights, optimizer, generator = start(**options)
        gradients = [torch.randn(3, 11, generator=generator, dtype=torch.float64) for _ in range(6)]
        for gradient in gradients:
            optimizer.gradients.copy_(gradient)
            optimizer.step(range(3))
        for k in range(3):
            torch.testing.assert_close(optimizer.weights[k], solo(weights, k, gradients, **options))


def test_norms_are_clipped_slot_by_slot_and_reported_as_they_were():
    weights, optimizer, generator = start()
    sizes = torch.tensor([[0.01], [1.0], [100.0]])
    gradients = [sizes * torch.randn(3, 11, generator=generator, dtype=torch.float64) for _ in range(4)]
    for gradient in gradients:
        optimizer.gradients.copy_(gradient)
        torch.testing.assert_close(optimizer.clip(1.0), gradient.norm(dim=1))
        optimizer.step(range(3))
    for k in range(3):
        torch.testing.assert_close(optimizer.weights[k], solo(weights, k, gradients, max_norm=1.0))


def test_a_slot_that_starts_later_is_corrected_for_its_own_steps():
    weights, optimizer, generator = start()
    gradients = [torch.randn(3, 11, generator=generator, dtype=torch.float64) for _ in range(5)]
    for step, gradient in enumerate(gradients):
        if step == 2:  # slot 1 is given to another trial
            optimizer.weights[1] = weights[1]
            optimizer.reset(1, RATES[1])
        optimizer.gradients.copy_(gradient)
        optimizer.step(range(3))
    torch.testing.assert_close(optimizer.weights[0], solo(weights, 0, gradients))
    torch.testing.assert_close(optimizer.weights[1], solo(weights, 1, gradients[2:]))
    assert optimizer.steps == [5, 3, 5]


def test_slots_that_are_left_out_are_left_alone():
    weights, optimizer, generator = start()
    gradients = [torch.randn(3, 11, generator=generator, dtype=torch.float64) for _ in range(3)]
    for step, gradient in enumerate(gradients):
        optimizer.gradients.copy_(gradient)
        if step == 1:
            optimizer.gradients[1] = torch.nan
            optimizer.step([0, 2])
        else:
            optimizer.step([0, 1, 2])
    torch.testing.assert_close(optimizer.weights[0], solo(weights, 0, gradients))
    torch.testing.assert_close(optimizer.weights[1], solo(weights, 1, [gradients[0], gradients[2]]))
    torch.testing.assert_close(optimizer.weights[2], solo(weights, 2, gradients))


def test_weights_that_are_zero_and_have_no_gradient_stay_zero():
    _, optimizer, _ = start()
    optimizer.weights[:, 5:] = 0
    for _ in range(4):
        optimizer.gradients[:, :5] = 1.0
        optimizer.gradients[:, 5:] = 0
        optimizer.clip(1.0)
        optimizer.step(range(3))
    assert optimizer.weights[:, 5:].abs().max() == 0
