"""Every source of text gives the same strings; what cannot be read is said."""

import json
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from workbench.activations import texts as texts_module
from workbench.activations.texts import TextError, read_texts

TEXTS = ["the cat sat", "Überall Käse — 東京", "a dog\tran"]


def parquet(path: Path, **columns: list) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


@pytest.fixture
def sources(tmp_path: Path) -> dict[str, object]:
    (tmp_path / "lines.txt").write_text("\n".join(TEXTS) + "\n", encoding="utf-8")
    (tmp_path / "paragraphs.txt").write_text("\n\n\n".join(TEXTS), encoding="utf-8")
    (tmp_path / "windows.txt").write_bytes("\r\n\r\n".join(TEXTS).encode("utf-8-sig"))
    (tmp_path / "utf-16.txt").write_text("\n".join(TEXTS), encoding="utf-16")
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps({"id": i, "text": text}) for i, text in enumerate(TEXTS)) + "\n\n")
    (tmp_path / "strings.jsonl").write_text("\n".join(json.dumps(text) for text in TEXTS))
    files = {path.name: path for path in tmp_path.iterdir()}
    rows = [{"id": i, "text": text} for i, text in enumerate(TEXTS)]
    return {**files, "parquet": str(parquet(tmp_path / "a.parquet", text=TEXTS)), "list": TEXTS, "generator": iter(TEXTS), "rows": rows}


@pytest.mark.parametrize(
    "name",
    ["lines.txt", "paragraphs.txt", "windows.txt", "utf-16.txt", "rows.jsonl", "strings.jsonl", "parquet", "list", "generator", "rows"],
)
def test_every_source_gives_the_same_texts(sources, name):
    assert list(read_texts(sources[name])) == TEXTS


def test_a_data_set_is_read_by_its_column_from_memory_and_from_disk(tmp_path):
    from datasets import Dataset, DatasetDict

    dataset = Dataset.from_dict({"content": TEXTS, "n": [1, 2, 3]})
    assert list(read_texts(dataset, column="content")) == TEXTS
    dataset.save_to_disk(tmp_path / "saved")
    assert list(read_texts(tmp_path / "saved", column="content")) == TEXTS
    with pytest.raises(TextError, match="no column 'text'; there is content, n"):
        next(read_texts(dataset))
    splits = DatasetDict(train=dataset, test=dataset)
    with pytest.raises(TextError, match="several data sets, train, test"):
        read_texts(splits)
    splits.save_to_disk(tmp_path / "splits")
    with pytest.raises(TextError, match="name the folder of one: test, train"):
        read_texts(tmp_path / "splits")


def test_a_data_set_of_the_hub_is_streamed_by_name_and_split(monkeypatch):
    import datasets

    asked = []
    monkeypatch.setattr(datasets, "load_dataset", lambda name, **options: asked.append((name, options)) or [{"text": "the cat"}])
    assert list(read_texts("hub:owner/name:validation")) == list(read_texts("hub:owner/name")) == ["the cat"]
    assert asked == [("owner/name", {"split": split, "streaming": True}) for split in ("validation", "train")]


def test_a_folder_is_read_file_after_file_by_name(tmp_path):
    (tmp_path / "b.txt").write_text("second")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "z.jsonl").write_text('{"text": "first"}')
    parquet(tmp_path / "c.parquet", text=["third"])
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\0")
    (tmp_path / ".hidden.txt").write_text("hidden")
    assert list(read_texts(tmp_path)) == ["first", "second", "third"]


def test_a_wrapped_paragraph_is_one_text(tmp_path):
    path = tmp_path / "book.txt"
    path.write_text("It was a dark\nand stormy night.\n\n\nThe rain\nfell.\n")
    assert list(read_texts(path)) == ["It was a dark\nand stormy night.", "The rain\nfell."]


def test_empty_texts_and_nulls_are_left_out(tmp_path):
    assert list(read_texts(["", "a", " \n", "b"])) == ["a", "b"]
    assert list(read_texts(parquet(tmp_path / "a.parquet", text=["a", None, "b"]))) == ["a", "b"]


def test_a_string_that_knows_more_stays_what_it_is():
    class Known(str):
        pass

    (found,) = read_texts([Known("the cat")])
    assert isinstance(found, Known)


def test_a_bad_byte_becomes_a_replacement_character(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"the c\xffat sat\n" + b"the dog ran\n" * 100)
    assert next(read_texts(path)) == "the c�at sat"
    (tmp_path / "b.jsonl").write_bytes(b'{"text": "the c\xffat"}\n')
    assert list(read_texts(tmp_path / "b.jsonl")) == ["the c�at"]


def test_a_long_line_comes_in_pieces_and_never_whole_into_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(texts_module, "LONGEST", 2**16)
    monkeypatch.setattr(texts_module, "N_SAMPLE", 2**12)
    path = tmp_path / "a.txt"
    path.write_text("the cat " * 2**19)  # 4 MB in one line
    tracemalloc.start()
    n = sum(map(len, read_texts(path)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert n == 8 * 2**19 and peak < 2**20
    path.write_text("a\n\n" + "the cat sat\n" * 2**16)
    assert all(len(text) <= 2**16 for text in read_texts(path))
    assert list(map(len, read_texts(["x" * 2**17]))) == [2**16, 2**16]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x1f\x8b\x08\0\0\0\0\0", "is not text: it holds zero bytes"),
        ("Stra\u00dfe K\u00e4se \u00fcber".encode("latin-1") * 10, "is not UTF-8: .* cannot be read; packed, or another encoding"),
    ],
)
def test_what_is_no_text_is_said(tmp_path, content, message):
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    with pytest.raises(TextError, match=message):
        next(read_texts(path))


def test_a_line_that_is_no_json_is_said_by_number(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "the cat"}\n{"text": \n')
    found = read_texts(path)
    assert next(found) == "the cat"
    with pytest.raises(TextError, match=r"a.jsonl, line 2: not JSON .*; expected one object a line"):
        next(found)


def test_a_column_that_is_not_there_names_those_that_are(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"content": "the cat", "id": 1}')
    for source in (tmp_path / "a.jsonl", parquet(tmp_path / "a.parquet", content=["the cat"], id=[1]), [{"content": "the cat", "id": 1}]):
        with pytest.raises(TextError, match="has no column 'text'; there is content, id"):
            next(read_texts(source))


@pytest.mark.parametrize("rows", [[{"text": 3}], [3], [["the cat"]]])
def test_a_text_that_is_no_string_is_said(rows):
    with pytest.raises(TextError, match="text 0 of the iterable is a (int|list); expected a string"):
        next(read_texts(rows))


def test_a_truncated_parquet_file_is_said(tmp_path):
    path = parquet(tmp_path / "a.parquet", text=TEXTS * 100)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(TextError, match="a.parquet is truncated or not a Parquet file"):
        next(read_texts(path))


def test_a_missing_file_is_said_at_once_with_what_is_there(tmp_path):
    (tmp_path / "corpus.txt").write_text("the cat")
    with pytest.raises(
        TextError, match=r"no such file or folder: .*corpus.text .* holds corpus.txt\). In Python a text itself goes in a list"
    ):
        read_texts(tmp_path / "corpus.text")
    with pytest.raises(TextError, match="no such file or folder: the cat sat"):
        read_texts("the cat sat")


def test_a_folder_without_text_is_said_at_once(tmp_path):
    (tmp_path / "a.png").touch()
    with pytest.raises(TextError, match="holds no text: expected files .txt, .md, .jsonl, .json, .parquet; found .png"):
        read_texts(tmp_path)
