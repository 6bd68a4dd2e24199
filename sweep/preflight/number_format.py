"""What `model.dtype = "auto"` comes to, and whether a study can go on in the number format that it began with."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from objectives.machine import has_native_bfloat16, processor_name
from objectives.settings.number_formats import DType
from sweep.errors import StudyMismatchError
from sweep.preflight.devices import Device
from sweep.study.file import StudyFile

if TYPE_CHECKING:
    import optuna


def with_dtype(config: StudyFile, device: Device | None) -> StudyFile:
    """The study with what `auto` comes to on a device; None is this machine's processor.

    bfloat16 where the device computes it by itself. A GPU without it gets float16, or float32 if the study is packed:
    the packed learner cannot train in float16. A processor without it gets float32, which is faster than emulation.
    """
    if config.model.dtype != "auto":
        return config
    if device is None and config.model.device != "gpu":
        return _with(config, "bfloat16" if has_native_bfloat16() else "float32")
    if device is None or device.bfloat16:
        return _with(config, "bfloat16")
    return _with(config, "float32" if config.learner.name == "packed" else "float16")


def settle_dtype(config: StudyFile, stored: optuna.Study | None, device: Device | None) -> StudyFile:
    """The same for a study that may be stored already: it keeps the number format that it began with.

    Args:
        config: The study.
        stored: What was stored of it, if anything.
        device: Where it runs; None for the processor.

    Raises:
        StudyMismatchError: where it began in a format that this device cannot compute in.
    """
    from sweep.storage.attributes import CONFIG

    began = {} if stored is None else stored.user_attrs.get(CONFIG, {}).get("model", {})
    dtype = next((name for name in get_args(DType) if name == began.get("dtype")), None)
    if config.model.dtype != "auto" or dtype is None:
        return with_dtype(config, device)
    where = f"this processor ({processor_name()})" if device is None else f"this GPU ({device.name})"
    if (dtype == "float16" and device is None) or (dtype == "bfloat16" and device is not None and not device.bfloat16):
        raise StudyMismatchError(
            f"study {config.study.name!r} was begun in {dtype}, which {where} cannot compute in; continue it "
            "on a machine that can, or give it another study.name"
        )
    return _with(config, dtype)


def _with(config: StudyFile, dtype: DType) -> StudyFile:
    return config.model_copy(update={"model": config.model.model_copy(update={"dtype": dtype})})
