"""The grid that documentation tells people to run: what a mistake in it looks like."""

import pytest

from benchmarks import grid


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no-such-study"], "no-such-study"),
        (["tiny", "--set", "space.alpha=[32]", "--set", "space.learning_rate=[1e-3]"], "search.points_per_rank"),
        (["tiny", "--storage", "nonsense"], "nonsense"),
        (["tiny", "--storage", "sqlite:////nowhere/at/all.db"], "/nowhere/at/all.db"),
    ],
)
def test_a_mistake_ends_in_lines_and_a_documented_exit_code(arguments, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["grid", *arguments])
    with pytest.raises(SystemExit) as ended:
        grid.main()
    assert ended.value.code in (2, 4)
    said = capsys.readouterr()
    assert said.out == ""
    assert message in said.err
    assert all(line.startswith("grid: ") for line in said.err.splitlines())
