"""A study that starts from an adapter: merged once, served and trained on as the base that it then is."""

import shutil

import pytest
import torch
from peft import PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from objectives.engines.protocol import Sampling
from objectives.errors import PolicyError
from objectives.lora import LoraSpec
from objectives.policies.first_adapter import with_first_adapter
from objectives.policies.peft import PeftPolicy, peft_config
from sweep.errors import StudyFileError
from sweep.preflight.checks import check_study
from sweep.study.reading import load_study
from sweep.study.sources import source_hashes

TOKENS = torch.tensor([[3, 5, 7, 9, 11]])


@pytest.fixture
def adapted(tiny, unsloth_policy, tmp_path):
    """A PEFT model whose adapter changes much, saved under `first`."""
    base = AutoModelForCausalLM.from_pretrained(tiny.path, dtype=torch.float32)
    model = get_peft_model(base, peft_config(LoraSpec(r=4, alpha=16)))
    generator = torch.Generator().manual_seed(0)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            weight.data.normal_(std=0.1, generator=generator)
    model.save_pretrained(tmp_path / "first")
    return model


def logits(model):
    with torch.no_grad():
        return model(TOKENS).logits


def test_the_merged_base_is_the_adapted_model(adapted, tiny, tmp_path):
    model = with_first_adapter(tiny.model_copy(update={"adapter": "first"}), [tmp_path], tmp_path / "merged")
    assert model.adapter is None
    policy = PeftPolicy(model)
    torch.testing.assert_close(logits(policy.base), logits(adapted), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(logits(policy.base), logits(adapted.unload()), atol=0.1)
    assert policy.tokenizer("A:abcd>")["input_ids"]


def test_it_is_merged_once_and_anew_where_the_adapter_is_another(adapted, tiny, tmp_path):
    asked = tiny.model_copy(update={"adapter": "first"})
    copy = with_first_adapter(asked, [tmp_path], tmp_path / "merged")
    made = (tmp_path / "merged").stat().st_mtime_ns
    assert with_first_adapter(asked, [tmp_path], tmp_path / "merged") == copy
    assert (tmp_path / "merged").stat().st_mtime_ns == made
    for weight in adapted.parameters():
        weight.data *= 1.5
    adapted.save_pretrained(tmp_path / "first")
    assert with_first_adapter(asked, [tmp_path], tmp_path / "merged").name != copy.name
    assert len(list((tmp_path / "merged").iterdir())) == 2


def test_an_engine_serves_what_was_merged_with_new_adapters_on_top(adapted, tiny, tmp_path):
    from objectives.engines.transformers import TransformersEngine

    model = with_first_adapter(tiny.model_copy(update={"adapter": "first"}), [tmp_path], tmp_path / "merged")
    engine = TransformersEngine(model, max_lora_rank=8)
    [completion] = engine.rollout([TOKENS[0].tolist()], [None], Sampling(temperature=0.0, max_tokens=1), [0])
    assert completion.token_ids[0] == logits(adapted)[0, -1].argmax()
    policy = PeftPolicy(model)
    assert isinstance(policy.build(LoraSpec(r=8, alpha=16), seed=0), PeftModel)
    policy.release()


def test_what_is_no_adapter_of_this_model_is_told(adapted, tiny, tmp_path):
    asked = tiny.model_copy(update={"adapter": "first"})
    with pytest.raises(PolicyError, match=r"no file 'elsewhere'.*allowed: a folder that PEFT"):
        with_first_adapter(tiny.model_copy(update={"adapter": "elsewhere"}), [tmp_path], tmp_path / "merged")
    (tmp_path / "first" / "adapter_model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(PolicyError, match=r"first cannot be merged into shipped/tiny: "):
        with_first_adapter(asked, [tmp_path], tmp_path / "merged")
    assert not list((tmp_path / "merged").iterdir())
    (tmp_path / "first" / "adapter_model.safetensors").rename(tmp_path / "first" / "adapter_model.bin")
    with pytest.raises(PolicyError, match=r"holds no adapter_model\.safetensors"):
        with_first_adapter(asked, [tmp_path], tmp_path / "merged")


@pytest.mark.parametrize(
    ("config", "told"),
    [("[]", "of type None; allowed: 'LORA'"), ('{"peft_type": "IA3"}', "of type 'IA3'"), ("{", "cannot be read")],
)
def test_a_configuration_of_another_kind_is_told(adapted, tiny, tmp_path, config, told):
    (tmp_path / "first" / "adapter_config.json").write_text(config)
    with pytest.raises(PolicyError, match=told):
        with_first_adapter(tiny.model_copy(update={"adapter": "first"}), [tmp_path], tmp_path / "merged")


@pytest.mark.parametrize(("tensors", "told"), [("other", "it lacks"), ("more", "has no place for")])
def test_an_adapter_of_another_model_is_told(adapted, tiny, tmp_path, tensors, told):
    """PEFT would go on with a warning, and the base be what it was."""
    path = tmp_path / "first" / "adapter_model.safetensors"
    kept = load_file(path) if tensors == "more" else {}
    save_file(kept | {"base_model.model.x.lora_A.weight": torch.zeros(4, 4)}, path)
    with pytest.raises(PolicyError, match=told):
        with_first_adapter(tiny.model_copy(update={"adapter": "first"}), [tmp_path], tmp_path / "merged")


def test_a_base_that_was_replaced_is_merged_anew(adapted, tiny, tmp_path):
    shutil.copytree(tiny.path, tmp_path / "base")
    asked = tiny.model_copy(update={"adapter": "first", "name": str(tmp_path / "base")})
    copy = with_first_adapter(asked, [tmp_path], tmp_path / "merged")
    weights = load_file(tmp_path / "base" / "model.safetensors")
    save_file(
        {name: 2 * weight for name, weight in weights.items()},
        tmp_path / "base" / "model.safetensors",
        {"format": "pt"},
    )
    assert with_first_adapter(asked, [tmp_path], tmp_path / "merged").name != copy.name


def test_a_study_is_checked_for_it_and_notices_when_it_changes(adapted, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = load_study("tiny", ["model.adapter=first"])
    check_study(config)
    before = source_hashes(config)
    assert before.keys() >= {"first"}
    (tmp_path / "first" / "adapter_config.json").write_text("{}")
    assert source_hashes(config)["first"] != before["first"]
    shutil.rmtree(tmp_path / "first")
    with pytest.raises(StudyFileError, match=r"model\.adapter: no file 'first'"):
        check_study(config)
