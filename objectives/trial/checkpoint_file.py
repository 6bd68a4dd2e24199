"""Where a running trial's checkpoint lies: one file for each point and seed, which a trial run again goes on from."""

from __future__ import annotations

import shutil
from pathlib import Path

from objectives.trial.messages import TrialSpec

SUFFIX = ".safetensors"


def checkpoint_folder(log_folder: Path) -> Path:
    """Where a study's checkpoints lie."""
    return log_folder / "checkpoints"


def checkpoint_file(log_folder: Path, spec: TrialSpec) -> Path:
    """A trial's checkpoint.

    It is named by what the trial is and not by its number: a trial that was lost comes again under another one.
    """
    adapter = "whole"
    if (lora := spec.lora) is not None:
        modules = f"-{spec.target_set}" if spec.target_set else ""
        adapter = f"r{lora.r}-alpha{lora.alpha}" + ("-rslora" if lora.use_rslora else "") + modules
    # All digits of the rate: two rates that print alike would share a file.
    name = f"{adapter}-rate{spec.learning_rate!r}-seed{spec.seed}"
    return checkpoint_folder(log_folder) / (name + SUFFIX)


def remove_litter(log_folder: Path) -> None:
    """Removes what writers that were killed have left half-written."""
    for path in checkpoint_folder(log_folder).glob("*"):
        if path.suffix != SUFFIX:
            path.unlink(missing_ok=True)


def take_over(log_folder: Path, earlier: Path) -> None:
    """Lets trials go on from the checkpoints that lie in another study's folder, and leaves them to it.

    Checkpoints are replaced and never written into, so that one file may have two names.
    """
    folder = checkpoint_folder(log_folder)
    folder.mkdir(parents=True, exist_ok=True)
    for path in checkpoint_folder(earlier).glob(f"*{SUFFIX}"):
        if not (folder / path.name).exists():
            try:
                (folder / path.name).hardlink_to(path)
            except OSError:  # another file system, or one without links
                shutil.copy2(path, folder / path.name)
