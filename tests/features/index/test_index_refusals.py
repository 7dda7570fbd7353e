"""What is no index, or of something else, and what cannot be built or asked for is said, and changes nothing."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from made_index import TEXTS, contents
from made_models import random_sae

from workbench.features.index.index import FeatureIndex, build_index
from workbench.sae.sae import SAE


def test_an_index_belongs_to_one_model_and_its_saes(index: FeatureIndex, model, model_of, saes):
    assert index.of(model, saes["narrow"]).sae_name == "narrow"
    other = random_sae()
    other.b_enc[0] += 1
    with pytest.raises(ValueError, match=f"another SAE: of wide {saes['wide'].fingerprint()}, .* this SAE is {other.fingerprint()}"):
        index.of(model, other)
    with pytest.raises(ValueError, match=f"another model: of .* {index.manifest['model']['fingerprint']}, this model is"):
        index.of(model_of("llama"), saes["wide"])
    with pytest.raises(ValueError, match="no SAE is called 'wise' in this index; there is wide, narrow"):
        index.with_sae("wise")


def test_an_index_of_an_earlier_format_is_to_be_built_anew(model, saes, tmp_path: Path):
    build_index(model, saes, TEXTS[:5], tmp_path, progress=False)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps({**manifest, "format": 1}))
    with pytest.raises(ValueError, match="is an index of format 1, this version reads 2: build it anew"):
        FeatureIndex.open(tmp_path)
    with pytest.raises(ValueError, match="format is 2, there 1"):
        build_index(model, saes, TEXTS[:5], tmp_path, progress=False)


def test_a_missing_or_damaged_file_is_named(model, saes, tmp_path: Path):
    build_index(model, saes, TEXTS, tmp_path, progress=False)
    file = tmp_path / "examples-narrow-00000.parquet"
    data = file.read_bytes()
    file.write_bytes(data[:-5])
    with pytest.raises(ValueError, match=rf"examples-narrow-00000.parquet is damaged: it has {len(data) - 5:,} bytes"):
        FeatureIndex.open(tmp_path)
    file.unlink()
    with pytest.raises(ValueError, match="lacks examples-narrow-00000.parquet"):
        FeatureIndex.open(tmp_path)


def other_sae(build: Callable, saes: dict[str, SAE]) -> None:
    changed = random_sae()
    changed.b_dec[0] += 1
    build(saes={"wide": changed, "narrow": saes["narrow"]})


WRONG = {
    "saes wide fingerprint is .*, there .*": other_sae,
    "saes narrow is absent, there another": lambda build, saes: build(saes={"wide": saes["wide"]}),
    "corpus fingerprint is .*, there": lambda build, saes: build(texts=TEXTS[:-1]),
    "shard is 99, there 4194304": lambda build, saes: build(shard=99),
    "two SAEs have the same width": lambda build, saes: build(saes=[saes["wide"], random_sae()]),
    "'../x' cannot be a part of file names": lambda build, saes: build(saes={"../x": saes["wide"]}),
    r"no such file or folder: the cat .* \[text\]": lambda build, saes: build(texts="the cat"),
    "shard=0 holds no text": lambda build, saes: build(shard=0),
    "no SAE is given": lambda build, saes: build(saes=[]),
}


@pytest.mark.parametrize("message", WRONG)
def test_what_does_not_fit_is_said_and_changes_nothing(index: FeatureIndex, model, saes, message: str):
    def build(saes=saes, texts=TEXTS, **options) -> None:
        build_index(model, saes, texts, index.folder, progress=False, **options)

    before = contents(index.folder)
    with pytest.raises(ValueError, match=message):
        WRONG[message](build, saes)
    assert contents(index.folder) == before


def test_texts_without_tokens_and_folders_of_something_else_are_refused(model, saes, tmp_path: Path):
    with pytest.raises(ValueError, match="the 2 texts hold no tokens"):
        build_index(model, saes, ["", "<|start|>"], tmp_path / "empty", progress=False)
    with pytest.raises(ValueError, match="text 1 is of type int; expected strings"):
        build_index(model, saes, iter(["the cat", 3]), tmp_path / "numbers", progress=False)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").touch()
    with pytest.raises(ValueError, match=r"not empty and no index \(found: notes.txt\)"):
        build_index(model, saes, TEXTS, tmp_path / "full", progress=False)
    with pytest.raises(ValueError, match="is not an index: manifest.json is missing"):
        FeatureIndex.open(tmp_path / "full")


@pytest.mark.parametrize("feature", [-1, 64])
def test_a_feature_that_is_not_there_is_refused(index: FeatureIndex, feature):
    with pytest.raises(ValueError, match="out of range: wide has features 0 to 63"):
        index.feature(feature)
