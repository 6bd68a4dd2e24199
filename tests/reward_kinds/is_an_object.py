"""Is no function, but can be called."""


class Judge:
    def __init__(self, weight):
        self.weight = weight

    def __call__(self, completions, **columns):
        return tuple(self.weight * len(completion) for completion in completions)


reward = Judge(2)


def weighs(row, completion):
    return 2.0 * len(completion)
