"""Workers that train nothing: rewards are a function of trial and step. They speak the worker's protocol."""

from collections import deque

from objectives.trial.messages import (
    Finished,
    HeldOutScore,
    Progress,
    Prune,
    Ready,
    SlotFree,
    Start,
    StepMetrics,
    TrialResult,
)

BASELINE, SPREAD = 0.25, 0.43
"""The base policy's reward, and its standard deviation between prompts: as where a quarter of them is solved."""


class ScriptedWorker:
    """Runs trials at once, as a pack does; one that is pruned ends at its next step, as there. It is a crew of one."""

    count = 1

    def __init__(self, reward, *, slots=3, deaf=False, silent=lambda spec, step: 0.0, units=(1.0, 0.0)):
        """Sets up.

        Args:
            reward: Called with a spec and a step.
            slots: Trials at once.
            deaf: Trials spend their budget whatever the supervisor says, as one does that is at its last step.
            silent: The share of groups without signal; called as `reward` is.
            units: (a, c): what is told of a reward is a * reward + c.
        """
        self.reward, self.slots, self.deaf, self.silent, self.units = reward, slots, deaf, silent, units
        self.most, self.idle = 0, 0
        self._steps, self._pruned, self._specs = {}, set(), {}

    def __call__(self, settings, log_folder):
        self._log_folder, self._budget = log_folder, settings.budget.steps
        return self

    def log(self, k):
        return str(self._log_folder / "worker.log")

    def identity(self, k):
        return 1

    def is_ready(self, k):
        return True

    def stop(self, k):
        self._out.clear()

    def start(self, k):
        self._out = deque([Ready(baseline=self._score(0, BASELINE), facts={}), *[SlotFree()] * self.slots])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def send(self, k, message):
        match message:
            case Start(spec=spec):
                self._specs[spec.number], self._steps[spec.number] = spec, 0
            case Prune(number=number):
                self._pruned.add(number)

    def receive(self, timeout_s):
        if not self._out:
            self._round()
        return (0, self._out.popleft()) if self._out else None

    def _round(self):
        self.most = max(self.most, len(self._specs))
        a, c = self.units
        for number, spec in list(self._specs.items()):
            self._steps[number] = step = self._steps[number] + 1
            metrics = StepMetrics(
                step=step, reward=a * self.reward(spec, step) + c, reward_std=0.1 * a,
                groups_without_signal=self.silent(spec, step),
                completion_length=5.0, tokens=step, seconds=0.1,
            )  # fmt: skip
            self._out.append(Progress(number=number, metrics=metrics))
            if step == self._budget or (number in self._pruned and not self.deaf):
                self._finish(number, step)

    def _finish(self, number, step):
        spec = self._specs.pop(number)
        result = TrialResult(
            scores=(self._score(step, self.reward(spec, step)),),
            steps=step,
            pruned=step < self._budget,
            tokens=step,
            adapter_parameters=1,
            seconds={},
            base=self._score(0, BASELINE + 0.01 * (spec.seed * 7 % 5 - 2)),
        )
        self._out += [Finished(number=number, result=result), SlotFree()]

    def _score(self, step, value):
        a, c = self.units
        value = a * value + c
        return HeldOutScore(step=step, sampled=value, greedy=value, prompts=1024, spread=a * SPREAD)
