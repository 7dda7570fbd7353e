"""workbench doctor says what a bug report needs, loads no model, and tells nobody's secrets."""

import json
import shutil
from pathlib import Path

import pytest

from workbench import atlas, cli
from workbench.checks import doctor
from workbench.versions import TESTED


def test_it_names_every_package_the_machine_and_the_atlas_and_loads_no_model(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("workbench.model.model.load_model", lambda *args, **options: pytest.fail("a model was loaded"))
    assert cli.main(["doctor"]) == 0
    page = capsys.readouterr().out
    for word in (*TESTED, "workbench", "Python", "processor", "torch computes with", "usable here", "GB free", "atlas", "your labels"):
        assert word in page
    assert "is missing or damaged" not in page


def test_variables_are_shown_of_a_fixed_list_and_no_other(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert cli.main(["doctor", "--json"]) == 0
    out = capsys.readouterr().out
    facts = {fact["name"]: fact["value"] for fact in json.loads(out)["facts"]}
    assert facts["OMP_NUM_THREADS"] == "7" and "secret" not in out and "TOKEN" not in out
    assert not any("TOKEN" in name.replace("TOKENIZERS", "") or "KEY" in name for name in doctor.VARIABLES)


def test_a_package_outside_of_what_was_tested_is_a_problem(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(doctor, "version", lambda name: "99.0" if name == "pandas" else TESTED.get(name, ("", "1.0"))[1])
    assert doctor.examine().problems == ["pandas: not tested with it"]


def test_what_is_damaged_of_the_atlas_is_named(tmp_path: Path):
    copied = shutil.copytree(atlas.WEIGHTS, tmp_path / "weights", copy_function=lambda source, target: Path(target).symlink_to(source))
    assert list(doctor.atlas_problems(copied)) == []
    for name, content in {"sae_2k/sae_weights.safetensors": b"version https://git-lfs", "sae_1k/labels.json": b"[]"}.items():
        (copied / name).unlink()
        (copied / name).write_bytes(content)
    (copied / "model" / "tokenizer.json").unlink()
    index = copied / "index" / "vocabulary.parquet"
    content = index.read_bytes()
    index.unlink()
    index.write_bytes(content[:100] + b"!" + content[101:])
    wrong = ["model/tokenizer.json", "sae_1k/labels.json", "sae_2k/sae_weights.safetensors"]
    assert sorted(doctor.atlas_problems(copied)) == [
        "index/vocabulary.parquet is damaged",
        *(f"{each} is missing or damaged" for each in wrong),
    ]
