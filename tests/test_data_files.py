"""Data as people have it: every variety gives the rows that were saved, or one line that names the trouble."""

import bz2
import gzip
import json
import lzma

import pandas as pd
import pytest
from datasets import Dataset, DatasetDict
from hypothesis import given
from hypothesis import strategies as st

from objectives.errors import TaskError
from objectives.settings.tasks import DatasetSettings
from objectives.tasks.columns import make_alike
from objectives.tasks.dataset import WRITTEN_MESSAGES, dataset_task
from objectives.tasks.files import read_file
from objectives.tasks.rows import read_rows

ROWS = [{"prompt": f"säg {n}; \u2028 sen", "target": f"{n},5"} for n in range(12)]
CHAT = [{"prompt": [{"role": "user", "content": f'it\'s "{n}"\n{{x}}'}], "target": str(n)} for n in range(40)]
LINES = "\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS)


def csv(delimiter=","):
    return pd.DataFrame(ROWS).to_csv(index=False, sep=delimiter)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("ROWS.JSONL", LINES),
        ("rows.ndjson", LINES),
        ("rows.jsonl.gz", gzip.compress(LINES.encode())),
        ("rows.jsonl.bz2", bz2.compress(LINES.encode())),
        ("rows.csv.xz", lzma.compress(csv().encode())),
        ("rows.json", json.dumps(ROWS)),
        ("rows.json", json.dumps(ROWS, indent=2)),
        ("rows.json", LINES),
        ("rows.json", json.dumps({"data": ROWS})),
        ("rows.json", pd.DataFrame(ROWS).to_json()),
        ("rows.json", json.dumps({key: [row[key] for row in ROWS] for key in ROWS[0]})),
        ("rows.Csv", csv()),
        ("rows.csv", csv(";")),
        ("rows.csv", csv("\t")),
        ("rows.tsv", csv("\t")),
        ("rows.jsonl", LINES.encode("utf-16")),
        ("rows.csv", csv(";").encode("utf-16")),
        ("rows.csv", csv().encode("utf-8-sig")),
        ("rows.json", json.dumps(ROWS).encode("utf-32")),
    ],
)
def test_every_variety_of_file_gives_the_same_rows(tmp_path, name, content):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    assert read_rows(name, config=None, split="train", folders=[tmp_path]) == ROWS


def test_a_single_object_is_a_single_row(tmp_path):
    path = tmp_path / "rows.json"
    path.write_text('{"prompt": "p", "target": [1, 2]}')
    assert read_file(path, split="train") == [{"prompt": "p", "target": [1, 2]}]


def settings(**changes):
    return DatasetSettings(name="dataset", reward=["r:f"], **changes)


def all_rows(task):
    return task.train_rows(10**6) + task.held_out_rows(10**6)


def test_a_saved_data_set_is_read_by_its_folder_and_its_splits(tmp_path):
    Dataset.from_list(CHAT).save_to_disk(tmp_path / "saved", num_shards=3)
    task = dataset_task(settings(data="saved"), seed=0, folders=[tmp_path])
    assert sorted(all_rows(task), key=lambda row: int(row["target"])) == CHAT
    both = DatasetDict(train=Dataset.from_list(CHAT[:30]), test=Dataset.from_list(CHAT[30:]))
    both.save_to_disk(tmp_path / "both")
    task = dataset_task(settings(data="./both", held_out_split="test"), seed=0, folders=[tmp_path])
    assert (len(task.train_rows(99)), len(task.held_out_rows(99))) == (30, 10)
    [shard] = (tmp_path / "both" / "test").glob("*.arrow")
    assert read_file(shard, split="train") == CHAT[30:]
    with pytest.raises(TaskError, match=r"both has no split 'dev'; allowed: train, test"):
        dataset_task(settings(data="both", held_out_split="dev"), seed=0, folders=[tmp_path])
    (tmp_path / "empty").mkdir()
    with pytest.raises(TaskError, match="empty is a folder, and no data set was saved to it; name a file in it"):
        dataset_task(settings(data="empty"), seed=0, folders=[tmp_path])


def test_a_file_has_no_splits(tmp_path):
    (tmp_path / "rows.jsonl").write_text(LINES)
    with pytest.raises(TaskError, match=r"held_out_split='test' is no file, and rows\.jsonl has no splits"):
        dataset_task(settings(data="rows.jsonl", held_out_split="test"), seed=0, folders=[tmp_path])


def test_messages_that_pandas_wrote_as_text_are_messages_again(tmp_path):
    pd.DataFrame(CHAT).to_csv(tmp_path / "python.csv", index=False)
    as_json = [{**row, "prompt": json.dumps(row["prompt"])} for row in CHAT]
    pd.DataFrame(as_json).to_csv(tmp_path / "json.csv", index=False)
    for name in ("python.csv", "json.csv"):
        rows = all_rows(dataset_task(settings(data=name), seed=0, folders=[tmp_path]))
        assert sorted(rows, key=lambda row: int(row["target"])) == CHAT
    # As a column of NumPy arrays is written: no commas between messages.
    (tmp_path / "numpy.csv").write_text(
        "prompt\n\"[{'role': 'user', 'content': 'a'}\n {'role': 'user', 'content': 'b'}]\""
    )
    with pytest.raises(TaskError, match="row 1: prompt is a list of messages written as text, and cannot be read back"):
        dataset_task(settings(data="numpy.csv"), seed=0, folders=[tmp_path])


DEEP = "[" * 100_000
"""Nested deeper than any parser follows."""


@pytest.mark.parametrize(
    "content",
    ["{[]: 1}", "{{}: 1}", "-" * 100_000 + "1", DEEP, "x" + ".a" * 100_000],
    ids=["a list for a key", "a dictionary for a key", "signs", "brackets", "attributes"],
)
def test_a_text_that_looks_like_messages_and_is_no_python_is_named(tmp_path, content):
    text = "[{'role': 'user', 'content': " + content + "}]"
    (tmp_path / "rows.jsonl").write_text(json.dumps({"prompt": text}))
    with pytest.raises(TaskError, match="row 1: prompt is a list of messages written as text, and cannot be read back"):
        dataset_task(settings(data="rows.jsonl"), seed=0, folders=[tmp_path])


@pytest.mark.parametrize("file", ["dataset_dict.json", "state.json"])
def test_a_saved_data_set_that_is_nested_too_deep_is_named(tmp_path, file):
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / file).write_text(DEEP)
    with pytest.raises(TaskError, match="saved: cannot be read as a saved data set"):
        dataset_task(settings(data="saved"), seed=0, folders=[tmp_path])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["a", 1], "column 'x' holds text in row 1 and a number in row 2; allowed: one kind per column"),
        ([None, [1], {"a": 1}], "column 'x' holds a list in row 2 and an object in row 3"),
        ([True, 1], "column 'x' holds true or false in row 1 and a number in row 2"),
        ([{"a": 1}, {"a": "b"}], "column 'x', key 'a' holds a number in row 1 and text in row 2"),
        ([[1], [2, "b"]], "column 'x' holds a number in row 1 and text in row 2"),
    ],
)
def test_a_column_of_several_kinds_is_named_with_its_rows(rows, message):
    with pytest.raises(TaskError, match=f"rows.jsonl: {message}"):
        make_alike([{"prompt": "p", "x": value} for value in rows], source="rows.jsonl")


numbers = st.integers(-(2**31), 2**31) | st.floats(-1e6, 1e6)
cells = st.none() | st.one_of(
    st.text(max_size=3),
    numbers,
    st.lists(st.fixed_dictionaries({}, optional={"a": st.integers(0, 9), "b": st.text(max_size=2)}), max_size=3),
    st.fixed_dictionaries({}, optional={"a": st.lists(numbers, max_size=2), "b": st.none() | st.booleans()}),
)


@given(
    st.lists(st.fixed_dictionaries({"prompt": st.text()}, optional={"x": cells, "y": cells}), min_size=1, max_size=5)
)
def test_rows_are_alike_as_trls_data_sets_make_them(rows):
    """Whatever `Dataset.from_list` makes of rows, so do we; what it refuses, we refuse or have no need to."""
    columns = dict.fromkeys(column for row in rows for column in row)  # from_list reads the first row's alone
    try:
        theirs = Dataset.from_list([{column: row.get(column) for column in columns} for row in rows]).to_list()
    except (TypeError, ValueError, OverflowError):  # pyarrow's own errors are ValueErrors and TypeErrors
        return
    assert make_alike(rows, source="rows") == theirs


def test_one_prompt_again_and_again_is_held_out_by_row():
    rows = [{"prompt": "Write a poem.", "target": "x"}] * 1000

    def split(rows, tmp, **changes):
        (tmp / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
        return dataset_task(settings(data="rows.jsonl", **changes), seed=0, folders=[tmp])

    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        tmp = Path(folder)
        with pytest.raises(TaskError, match=r"split is empty: all 1,000 rows are equal, .* held_out_by = 'row' holds"):
            split(rows, tmp)
        with pytest.raises(TaskError, match=r"split is empty: all 9 rows have one prompt"):
            split([{"prompt": "p", "target": str(n)} for n in range(9)], tmp)
        task = split(rows, tmp, held_out_by="row")
        assert len(task.train_rows(2000)) + len(task.held_out_rows(2000)) == 1000
        assert 70 <= len(task.held_out_rows(2000)) <= 130


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.jsonl", '{"a": 1.5}\n{"a": 1' + "0" * 400 + "}", "a whole number too large for the decimals beside it"),
        ("x.csv", "a,b,a\n1,2,3\n", "two columns are called 'a'"),
        ("x.jsonl.zst", "not known", "cannot read .zst files"),
        ("x.zip", "not known", "cannot read .zip files"),
    ],
)
def test_what_cannot_be_read_is_refused_by_its_own_reason(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(TaskError) as refusal:
        read_rows(name, config=None, split="train", folders=[tmp_path])
    assert message in str(refusal.value)


def test_marks_within_quotes_separate_nothing(tmp_path):
    (tmp_path / "x.csv").write_text('prompt,"answer;a;b;c"\n"1;2;3,4",5\n')
    assert read_rows("x.csv", config=None, split="train", folders=[tmp_path]) == [
        {"prompt": "1;2;3,4", "answer;a;b;c": "5"}
    ]


@pytest.mark.parametrize(
    "text",
    [
        "{'role': 'user', 'content': 'hi'}",
        "[{'name': 'x', 'role': 'user', 'content': 'hi'}]",
        '{"role": "user", "content": "hi"}',
    ],
)
def test_any_message_written_as_text_is_a_message_again(text):
    assert WRITTEN_MESSAGES.match(text)
    assert not WRITTEN_MESSAGES.match("[1, 2] and {'role'} are no messages")
