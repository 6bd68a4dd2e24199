"""A worker process that plays a real one's stages and then dies in one of them. It speaks the worker's protocol."""

import os
import signal
import time

from objectives.crash_log import log_crashes
from objectives.lora import LoraSpec
from objectives.stages import IDLE, Stage
from objectives.trial.messages import HeldOutScore, Progress, Ready, SlotFree, StepMetrics

STAGES = ("starting", "importing Unsloth", "starting the engine", "scoring the base policy", "step", "reward")
"""Where it can die, in order."""
LORA = LoraSpec(r=8, alpha=16)


def run(environment, log, connection, settings, scratch):
    """What the spawned process runs: the study's name says in which stage to die and how, as `reward.SIGSEGV`."""
    log_crashes(log)
    fatal, _, how = settings.study.replace("_", " ").partition(".")
    for stage in STAGES:
        _play(stage, connection)
        if stage == fatal:
            _die(how)


def _play(stage, connection):
    match stage:
        case "starting":
            return
        case "step":
            score = HeldOutScore(step=0, sampled=0.25, greedy=0.25, prompts=8)
            for message in (IDLE, Ready(baseline=score, facts={}), SlotFree()):
                connection.send(message)
            connection.recv()  # what it is for
            number = connection.recv().spec.number
            metrics = StepMetrics(
                step=1, reward=0.3, reward_std=0.1, groups_without_signal=0.0, completion_length=5.0, tokens=1,
                seconds=0.1,
            )  # fmt: skip
            connection.send(Progress(number=number, metrics=metrics))
        case "reward":
            connection.send(Stage(doing="calling the reward mine", reward="mine", limit_s=0.1))
        case _:
            connection.send(Stage(doing=stage))


def _die(how):
    if how == "hang":
        time.sleep(600)
    if how == "exit":
        os._exit(7)
    signal.raise_signal(signal.Signals[how])
