"""What can go wrong in a trial, by whose doing."""

from __future__ import annotations


class TrialError(Exception):
    """A trial cannot go on; `kind` names the cause in the stored study.

    Every subclass takes its whole message as its only argument, so that it survives pickling.
    """

    kind = "error"
    again = False
    """Whether the same trial, run again, may well get through."""


class PolicyError(TrialError):
    """The model or its adapter is not what the trial asked for."""

    kind = "policy"


class DeviceError(TrialError):
    """The device that the study was planned for cannot be used."""

    kind = "device"


class EngineError(TrialError):
    """The rollout engine refused or failed a request."""

    kind = "engine"


class RewardError(TrialError):
    """A reward function broke its contract: the user's bug, so it stops the study."""

    kind = "reward"


class UnrewardedError(TrialError):
    """A trained policy's held-out completions have no reward at all: the trial has collapsed."""

    kind = "unrewarded"


class DroppedError(TrialError):
    """Somebody wants this trial to end."""

    kind = "dropped"


class TaskError(TrialError, ValueError):
    """A task cannot be built from its settings: the user's mistake, so it stops the study."""

    kind = "task"


class PackTooLargeError(TrialError):
    """A pack outgrew the device's memory; half as many trials at once need half of it."""

    kind = "memory"
    again = True


class ModelConfigError(TrialError, ValueError):
    """A model's config.json cannot be found, read or planned with."""

    kind = "model"


class UnknownModelError(ModelConfigError):
    """A model whose shape is not known here: its config.json is still at the hub, or of a family that has no plan."""


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether memory ran out, on whichever device, be it behind an error of ours."""
    if error is None:
        return False
    # torch has a class for its GPUs alone. It is known by its name here, for torch is slow to import.
    own = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return own or "DefaultCPUAllocator: can't allocate memory" in str(error) or is_out_of_memory(error.__cause__)


def pack_too_large(error: BaseException, slots: int) -> PackTooLargeError | None:
    """What trials are told that are to run again beside fewer others, if that is what an error calls for."""
    if slots == 1 or not is_out_of_memory(error):
        return None
    return PackTooLargeError(f"out of memory with {slots} trials at once; {slots // 2} from here on")
