"""Reading rows from the files that people have: JSON, CSV and Parquet in their varieties, and saved data sets."""

from __future__ import annotations

import bz2
import codecs
import csv
import gzip
import io
import json
import lzma
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from objectives.errors import TaskError
from objectives.tasks.protocol import Row

COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.decompress, ".bz2": bz2.decompress, ".xz": lzma.decompress
}  # fmt: skip
BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip
"""How a text that says so is encoded. UTF-32's first mark begins like UTF-16's."""
DELIMITERS = ",;\t|"
LONGEST_FIELD = 2**31 - 1


def read_file(path: Path, *, split: str) -> list[Row]:
    """All rows of a file, or of a folder that a data set was saved to.

    Args:
        path: What to read.
        split: Which, where a folder holds several.

    Raises:
        TaskError: where it cannot be read; of a text, it names the line.
    """
    if path.is_dir():
        return _read_saved(path, split)
    suffix = _suffix(path)
    if suffix in (".parquet", ".arrow"):
        return _read_arrow(path, suffix)
    if suffix not in READERS:
        raise TaskError(f"{path}: cannot read {suffix or 'such'} files; allowed: {ALLOWED}")
    return READERS[suffix](_read_text(path), path)


def is_file_suffix(name: str) -> bool:
    """Whether a name ends as that of a file that can be read, or that people would think can be."""
    return _suffix(Path(name)) in (*READERS, ".parquet", ".arrow", ".txt", ".xlsx")


def _suffix(path: Path) -> str:
    """A file's kind, whatever the case of its letters and however it is compressed."""
    *_, before, last = ["", "", *(suffix.lower() for suffix in path.suffixes)]
    return before if last in COMPRESSIONS else last


def _read_text(path: Path) -> str:
    try:
        content = path.read_bytes()
        if (last := path.suffix.lower()) in COMPRESSIONS:
            content = COMPRESSIONS[last](content)
        encoding = next((name for mark, name in BYTE_ORDER_MARKS if content.startswith(mark)), "utf-8")
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        raise TaskError(f"{path}: cannot be read as {error.encoding} text: {error.reason}; save it as UTF-8") from error
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise TaskError(f"{path}: cannot be read: {error}") from error


def _read_lines(text: str, path: Path) -> list[Row]:
    rows = []
    # Only a newline ends a line of JSON: str.splitlines would also cut at separators inside strings.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise TaskError(f"{path}, line {number}: not JSON: {error}") from error
        if not isinstance(row, dict):
            raise TaskError(f"{path}, line {number}: {type(row).__name__}; allowed: one JSON object per line")
        rows.append(row)
    return rows


def _read_json(text: str, path: Path) -> list[Row]:
    """A list of objects, an object of columns, or one object per line after all."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        # People call files of lines .json as well.
        if text.lstrip().startswith("{"):
            return _read_lines(text, path)
        raise TaskError(f"{path}: not JSON: {error}") from error
    rows = _from_columns(content) if isinstance(content, dict) else content
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise TaskError(f"{path}: holds a {type(content).__name__}; allowed: a list of JSON objects, or one per line")
    return rows


def _from_columns(content: dict[str, Any]) -> list[Any]:
    """Rows of an object that holds them in a list, or column by column as pandas writes them; else it is one row."""
    values = list(content.values())
    if len(values) == 1 and isinstance(values[0], list) and all(isinstance(item, dict) for item in values[0]):
        return values[0]
    if values and all(isinstance(value, dict) and value.keys() == values[0].keys() for value in values):
        return [{column: content[column][key] for column in content} for key in values[0]]
    if values and all(isinstance(value, list) and len(value) == len(values[0]) for value in values):
        return [dict(zip(content, row, strict=True)) for row in zip(*values, strict=True)]
    return [content]


def _read_csv(text: str, path: Path) -> list[Row]:
    # Python's own limit of 131,072 characters is less than many a document.
    csv.field_size_limit(LONGEST_FIELD)
    # What stands in quotes separates nothing.
    header = re.sub(r'"[^"]*"', "", text).partition("\n")[0]
    # The commonest mark in the header; a comma where they tie.
    delimiter = "\t" if _suffix(path) == ".tsv" else max(DELIMITERS, key=lambda mark: (header.count(mark), mark == ","))
    try:
        # newline="" leaves line ends within quotes to csv, as its documentation asks.
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        rows: list[Row] = []
        names = list(reader.fieldnames or ())
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise TaskError(f"{path}: two columns are called {twice!r}")
        for row in reader:
            # How DictReader shows a line that is too long, and one that is too short.
            if None in row or None in row.values():
                raise TaskError(f"{path}, line {reader.line_num}: more or fewer fields than the header has")
            rows.append(dict(row))
    except csv.Error as error:
        raise TaskError(f"{path}: cannot be read: {error}") from error
    return rows


def _read_arrow(path: Path, suffix: str) -> list[Row]:
    import pyarrow
    import pyarrow.parquet

    kind = "Parquet" if suffix == ".parquet" else "Arrow"
    try:
        table = pyarrow.parquet.read_table(path) if suffix == ".parquet" else _arrow_table(path)
        rows: list[Row] = table.to_pylist()
    except (OSError, pyarrow.ArrowException) as error:
        raise TaskError(f"{path}: cannot be read as {kind}: {error}") from error
    return rows


def _arrow_table(path: Path) -> Any:
    """A file as data sets write them, which is a stream, or one in Arrow's file format."""
    import pyarrow

    with pyarrow.memory_map(str(path)) as source:
        try:
            return pyarrow.ipc.open_stream(source).read_all()
        except pyarrow.ArrowInvalid:
            return pyarrow.ipc.open_file(source).read_all()


def _read_saved(folder: Path, split: str) -> list[Row]:
    """What `Dataset.save_to_disk` and `DatasetDict.save_to_disk` of the package datasets wrote."""
    try:
        if (splits := folder / "dataset_dict.json").is_file():
            names = json.loads(splits.read_text(encoding="utf-8"))["splits"]
            if split not in names:
                raise TaskError(f"{folder} has no split {split!r}; allowed: {', '.join(names)}")
            folder = folder / split
        if not (state := folder / "state.json").is_file():
            raise TaskError(f"{folder} is a folder, and no data set was saved to it; name a file in it")
        files = [folder / file["filename"] for file in json.loads(state.read_text(encoding="utf-8"))["_data_files"]]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        if isinstance(error, TaskError):
            raise
        raise TaskError(f"{folder}: cannot be read as a saved data set: {error!r}") from error
    return [row for file in files for row in _read_arrow(file, ".arrow")]


READERS: dict[str, Callable[[str, Path], list[Row]]] = {
    ".jsonl": _read_lines, ".ndjson": _read_lines, ".json": _read_json, ".csv": _read_csv, ".tsv": _read_csv
}  # fmt: skip
"""Texts by the end of their name; each may be compressed."""
ALLOWED = ".jsonl, .csv, .parquet, .json, .ndjson, .tsv, .arrow, or a folder of save_to_disk"
