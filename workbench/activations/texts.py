"""Where text comes from: files, JSON lines, Parquet, folders of these, data sets, any iterable → strings, one after the other.

    read_texts("corpus.jsonl")                          a file; a folder: every text file in it, by name
    read_texts(["a text", "another"])                   any iterable of strings
    read_texts(datasets.load_dataset(…), "content")     any iterable of rows, here with the text in their column "content"
    read_texts("hub:roneneldan/TinyStories")            a data set of the Hugging Face hub, streamed; also "hub:name:validation"

Nothing is held but the text at hand (of Parquet: a few hundred rows). A text is data: whatever it says, it is only tokenized.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

LONGEST = 2**20  # characters; a longer text comes in pieces of this length, so that no line of a file has to fit in memory
N_SAMPLE = 2**20  # bytes of a plain file that tell what it is
MOST_UNREADABLE = 0.01  # share of characters that are no UTF-8; more, and the file is in another encoding
HUB = "hub:"
FASTA = re.compile(r"\s*>[^\n]*\n[A-Za-z*.-]{8,}\s*(\n|$)")  # a name, then a line of letters without a space

Source = str | Path | Iterable[Any]  # of strings, or of rows with one in a column


class TextError(ValueError):
    """A source of text that cannot be read: no such file, no such column, not text."""


def read_texts(source: Source, column: str = "text") -> Iterator[str]:
    """The texts of a source, streamed; empty ones are left out.

    column: where the text is in a row (JSON lines, Parquet, data sets, iterables of mappings). In a plain file a text is a paragraph, up
    to a blank line; in one without blank lines it is a line. Bytes that are no UTF-8 become �. Raises TextError, a missing file at once.
    """
    if isinstance(source, str) and source.startswith(HUB):
        if not source.removeprefix(HUB).partition(":")[0].strip():
            raise TextError(f"{source!r} names no data set: expected one of the hub, such as {HUB}roneneldan/TinyStories")
        texts = _rows(_from_hub(source.removeprefix(HUB)), column, source)
    elif isinstance(source, str | Path):
        texts = chain.from_iterable(map(partial(_read_file, column=column), _files(Path(source).expanduser())))
    elif isinstance(source, Mapping):
        raise TextError(f"this is several data sets, {', '.join(map(str, source))}; give one of them")
    elif hasattr(source, "columns"):  # iterated over, it would be the names of its columns
        raise TextError(f"a {type(source).__name__} is a table of {', '.join(map(str, source.columns))}: give one column of it, its texts")  # pyright: ignore[reportAttributeAccessIssue]
    else:
        texts = _rows(source, column, "the iterable")
    return (piece for text in texts for piece in _pieces(text) if piece.strip())


def _pieces(text: str) -> Iterator[str]:
    if len(text) <= LONGEST:
        return iter((text,))  # itself: it may be a string that knows more
    return (text[first : first + LONGEST] for first in range(0, len(text), LONGEST))


def _files(path: Path) -> list[Path]:
    """The file, or every text file of the folder and its folders, by name."""
    if not path.exists():
        near = sorted(other.name for other in path.parent.iterdir())[:8] if path.parent.is_dir() else []
        there = f"{path.parent} holds {', '.join(near)}" if near else "nor its folder"
        raise TextError(f"no such file or folder: {str(path)[:200]} ({there}). In Python a text itself goes in a list: [text]")
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise TextError(f"{path} is a pipe or a device, which can be read but once: write it to a file first")
    if (path / "dataset_info.json").is_file() and (path / "state.json").is_file():
        return [path]  # what `Dataset.save_to_disk` wrote
    if (path / "dataset_dict.json").is_file():
        raise TextError(
            f"{path} is several data sets; name the folder of one: {', '.join(sorted(d.name for d in path.iterdir() if d.is_dir()))}"
        )
    found = sorted(
        file for file in path.rglob("*") if file.suffix.lower() in READERS and not file.name.startswith((".", "_")) and file.is_file()
    )
    if not found:
        others = sorted({file.suffix or file.name for file in path.rglob("*") if file.is_file()})[:8]
        raise TextError(f"{path} holds no text: expected files {', '.join(READERS)}; found {', '.join(others) or 'nothing'}")
    return found


def _read_file(path: Path, column: str) -> Iterator[str]:
    if path.is_dir():
        return _rows(_from_disk(path), column, str(path))
    return READERS.get(path.suffix.lower(), _plain)(path, column)


def _plain(path: Path, column: str) -> Iterator[str]:
    """Paragraphs where there are blank lines, else lines."""
    with open(path, "rb") as file:
        encoding, has_paragraphs = _look(path, file.read(N_SAMPLE))
    with open(path, encoding=encoding, errors="replace") as file:
        lines = iter(lambda: file.readline(LONGEST), "")
        if not has_paragraphs:
            yield from (line.rstrip("\n") for line in lines)
            return
        kept, n_kept = [], 0
        for line in lines:
            if kept and (not line.strip() or n_kept + len(line) > LONGEST):
                yield "".join(kept).rstrip("\n")
                kept, n_kept = [], 0
            if line.strip():
                kept.append(line)
                n_kept += len(line)
        yield "".join(kept).rstrip("\n")


def _look(path: Path, sample: bytes) -> tuple[str, bool]:
    """(encoding, are there blank lines?) by the first bytes of a file. Raises TextError for what is no text."""
    encoding = "utf-16" if sample.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    text = sample.decode(encoding, errors="replace")
    if FASTA.match(text):
        raise TextError(f"{path} is FASTA: names and line breaks would be read as text; write one sequence a line, without the names")
    if "\0" in text:
        raise TextError(f"{path} is not text: it holds zero bytes (it starts with {sample[:8]!r})")
    n_bad = text.count("\ufffd")
    if n_bad > max(1, MOST_UNREADABLE * len(text)):
        share = n_bad / len(text)
        raise TextError(
            f"{path} is not UTF-8: {share:.0%} of its first {len(text):,} characters cannot be read; packed, or another encoding?"
        )
    return encoding, "\n\n" in text.replace("\r\n", "\n")


def _json_lines(path: Path, column: str) -> Iterator[str]:
    def rows() -> Iterator[Any]:
        with open(path, "rb") as file:
            encoding, _ = _look(path, file.read(N_SAMPLE))
        with open(path, encoding=encoding, errors="replace") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                try:
                    yield json.loads(line)
                except (ValueError, RecursionError) as error:
                    why = error.msg if isinstance(error, json.JSONDecodeError) else str(error) or "nested too deep"
                    raise TextError(f"{path}, line {number}: not JSON ({why}); expected one object a line") from None

    return _rows(rows(), column, str(path))


def _parquet(path: Path, column: str) -> Iterator[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path, page_checksum_verification=True)
    except (pa.ArrowException, OSError, MemoryError) as error:
        raise TextError(f"{path} is truncated or not a Parquet file ({str(error).splitlines()[0]})") from None
    with file:
        _check_column(file.schema_arrow.names, column, str(path))
        batches = file.iter_batches(batch_size=256, columns=[column])
        while True:
            try:
                rows = batch.to_pylist() if (batch := next(batches, None)) is not None else None
            except (pa.ArrowException, OSError, UnicodeDecodeError, MemoryError) as error:
                raise TextError(f"{path} is damaged ({str(error).splitlines()[0][:120]})") from None
            if rows is None:
                return
            yield from _rows(rows, column, str(path))


READERS: dict[str, Callable[[Path, str], Iterator[str]]] = {
    ".txt": _plain,
    ".md": _plain,
    ".jsonl": _json_lines,
    ".json": _json_lines,
    ".parquet": _parquet,
}


def _rows(rows: Iterable[Any], column: str, where: str) -> Iterator[str]:
    """The strings themselves, or what stands in the column of each row; a row without a text (null) is left out."""
    for number, row in enumerate(rows):
        if isinstance(row, Mapping):
            _check_column(list(row), column, where)
            row = row[column]
            if row is None:
                continue
        if not isinstance(row, str):
            raise TextError(f"text {number} of {where} is a {type(row).__name__}; expected a string, or a row with one as {column!r}")
        yield row


def _check_column(columns: list[str], column: str, where: str) -> None:
    if column not in columns:
        raise TextError(f"{where} has no column {column!r}; there is {', '.join(map(str, columns)) or 'none'}")


def _from_hub(name: str) -> Iterable[Any]:
    from datasets import load_dataset

    name, _, split = name.partition(":")
    try:
        return load_dataset(name, split=split or "train", streaming=True)
    except (OSError, ValueError, RuntimeError, LookupError) as error:
        why = " ".join(str(error).split())[:200]
        raise TextError(f"{HUB}{name} cannot be read: {type(error).__name__}: {why}") from None


def _from_disk(path: Path) -> Iterable[Any]:
    from datasets import load_from_disk

    try:
        return load_from_disk(str(path))
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:  # pyarrow's are of these
        raise TextError(f"{path} is a data set that cannot be read: {' '.join(str(error).split())[:200]}") from None
