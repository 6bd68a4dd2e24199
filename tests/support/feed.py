"""Trials for a learner, without a supervisor."""


class Feed:
    """Hands out given trials, and remembers what it is told."""

    def __init__(self, *specs, prune_at=None):
        self.specs, self.prune_at = list(specs), prune_at
        self.steps, self.results, self.failures = [], {}, {}
        self.stopped, self.notes, self.resumed_at = False, [], {}

    def take(self):
        return self.specs.pop(0) if self.specs else None

    def progress(self, number, metrics):
        self.steps.append((number, metrics))

    def pruned(self, number):
        return self.prune_at is not None and self.steps[-1][1].step >= self.prune_at

    def finish(self, number, result):
        self.results[number] = result

    def note(self, text):
        self.notes.append(text)

    def resumed(self, number, step, curve):
        self.resumed_at[number] = step

    def fail(self, number, error):
        self.failures[number] = error
