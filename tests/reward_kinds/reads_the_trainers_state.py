"""Follows the training's progress."""


def reward(completions, trainer_state, log_metric, **columns):
    assert 0 <= trainer_state.global_step / trainer_state.max_steps < 1
    log_metric("progress", trainer_state.epoch)
    return [float(len(completion)) for completion in completions]


def weighs(row, completion):
    return float(len(completion))
