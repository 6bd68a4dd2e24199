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


def test_only_the_newest_version_of_an_owner_is_kept(tmp_path):
    folder = AdapterFolder(tmp_path)
    old, other, new = (folder.publish(owner, Saved(), 8) for owner in ("a", "b", "a"))
    assert (old.path.exists(), other.path.exists(), new.path.exists()) == (False, True, True)
    folder.forget("a")
    folder.forget("never published")
    assert not new.path.exists()
