import peft
import safetensors.torch
import torch

from objectives.engines.adapter_files import AdapterFolder


class Saved:
    """Stands for a PEFT model: all that a folder asks of one is to save itself."""

    def save_pretrained(self, path, **_):
        from pathlib import Path

        Path(path).mkdir(parents=True)


def test_no_two_versions_share_id_name_or_path(tmp_path):
    folder = AdapterFolder(tmp_path)
    versions = [folder.publish(owner, Saved(), 8) for owner in ("a", "b", "a", "a")]
    for key in ("id", "name", "path"):
        assert len({getattr(version, key) for version in versions}) == 4


def test_an_adapter_leaves_its_device_in_one_copy(tmp_path, monkeypatch):
    from objectives.learners.packed.slots import SlotAdapter
    from tests.support.packed import fill_B, lora, make_pack, peft_model, random_model

    written = []

    def watched(call, of):
        def watching(*given, **named):
            tensors = of(given, named)
            written.append({tensor.untyped_storage().data_ptr() for tensor in tensors.values()})
            return call(*given, **named)

        return watching

    # PEFT is handed copies, and copies those once more, on the CPU.
    taken = watched(
        peft.peft_model.get_peft_model_state_dict, lambda given, named: named["state_dict"] or given[0].state_dict()
    )
    monkeypatch.setattr("peft.peft_model.get_peft_model_state_dict", taken)
    saved = watched(safetensors.torch.save_file, lambda given, named: given[0])
    monkeypatch.setattr("objectives.learners.packed.slots.save_file", saved)
    base = random_model()
    packed, _ = make_pack([lora(4), lora(8)], r_max=8, base=random_model())
    folder, model = AdapterFolder(tmp_path), fill_B(peft_model(base, lora(4), seed=0), 0)
    versions = [folder.publish("peft", model, 4), folder.publish("slot", SlotAdapter(packed, 1, lora(4), seed=0), 4)]
    assert [len(storages) for storages in written] == [1, 1]
    mine, other = (safetensors.torch.load_file(version.path / "adapter_model.safetensors") for version in versions)
    assert mine.keys() == other.keys()
    assert all(torch.equal(mine[n.replace(".default", "")], p) for n, p in model.named_parameters() if "lora_" in n)


def test_only_the_newest_version_of_an_owner_is_kept(tmp_path):
    folder = AdapterFolder(tmp_path)
    old, other, new = (folder.publish(owner, Saved(), 8) for owner in ("a", "b", "a"))
    assert (old.path.exists(), other.path.exists(), new.path.exists()) == (False, True, True)
    folder.forget("a")
    folder.forget("never published")
    assert not new.path.exists()
