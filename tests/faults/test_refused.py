"""What is no corpus, no budget, no sweep, no checkpoint of this run is one sentence, from Python and from a shell, and takes no time."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from made_faults import limited
from made_index import TEXTS, made_saes
from made_stream import D_SAE, Planted
from made_writers import ROW, made_activations
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from workbench import cli
from workbench.activations.stream import ActivationStream
from workbench.activations.texts import TextError, read_texts
from workbench.circuits.ranking.batch import rank_many
from workbench.features.index.index import FeatureIndex, build_index
from workbench.features.index.own_labels import OwnLabels
from workbench.sae.scaling.sweep import ScalingLaws
from workbench.sae.training.checkpoint import CHECKPOINT_FILE
from workbench.sae.training.train import TrainConfig, train

CONFIG = TrainConfig(d_sae=D_SAE, n_steps=40, lr=3e-3)


def shell(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    """The one line of a command that is refused."""
    with limited():
        assert cli.main(list(args)) == 2
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == 1
    return err


# texts ------------------------------------------------------------------------------------------------------------------------------

FILES = {
    "is not UTF-8": ("a.txt", "naïve café über ".encode("latin-1") * 9),
    "b.jsonl is not UTF-8": ("b.jsonl", '{"text": "naïve café über"}\n'.encode("latin-1") * 9),
    "is FASTA: names and line breaks would be read as text": ("a.txt", b">sp|P69905 HBA\nMVLSPADKTNVKAAWGKVGAHAGEYGAEALE\nRMFLSFPTTK\n"),
    "line 1: not JSON": ("a.jsonl", b'{"text": ' + b"[" * 100_000),
    "is truncated or not a Parquet file": ("a.parquet", b""),
}


@pytest.mark.parametrize("message", FILES)
def test_what_is_no_text_is_said(message: str, tmp_path: Path):
    name, content = FILES[message]
    (tmp_path / name).write_bytes(content)
    with limited(), pytest.raises(TextError, match=message):
        list(read_texts(tmp_path / name))


@pytest.mark.parametrize("name", ["hub:", "hub: ", "hub::train"])
def test_a_hub_address_without_a_name_is_refused_without_asking(name: str):
    with pytest.raises(TextError, match="names no data set: expected one of the hub, such as hub:roneneldan"):
        read_texts(name)


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    os.mkfifo(pipe := tmp_path / "pipe.txt")
    calls: list[Callable[[], Any]] = [
        lambda: list(read_texts(pipe)),
        lambda: list(read_texts(tmp_path)),
        lambda: rank_many(None, pipe, []),
        lambda: ScalingLaws.read(pipe),
        lambda: OwnLabels(tmp_path / "mine.json").add(pipe),
        lambda: FeatureIndex.open(pipe),
    ]
    for call in calls:
        with limited(), pytest.raises(ValueError):
            call()
    assert "is a pipe or a device: expected a file" in shell(capsys, "rank", "--chat", str(pipe), "--answer", " x")
    assert "which can be read but once" in shell(capsys, "evaluate", "--texts", str(pipe))


def test_an_empty_corpus_is_said(model, tmp_path: Path):
    (tmp_path / "empty.txt").touch()
    with pytest.raises(ValueError, match="the texts hold 0 tokens, fewer than one batch"):
        ActivationStream(model, tmp_path / "empty.txt", "blocks.1.hook_resid_pre")
    with pytest.raises(ValueError, match="the 0 texts hold no tokens"):
        build_index(model, made_saes(), tmp_path / "empty.txt", tmp_path / "index", progress=False)


def test_a_conversation_nested_too_deep_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "chat.json").write_text("[" * 200_000)
    assert "nested too deep" in shell(capsys, "rank", "--chat", str(tmp_path / "chat.json"), "--answer", " x")


# sweeps, budgets, recipes -----------------------------------------------------------------------------------------------------------

ROWS = {
    "says loss NaN; expected a number above 0": ROW | {"loss": float("nan")},
    "says loss 0; expected": ROW | {"loss": 0},
    "says lr -0.001; expected a number above 0": ROW | {"lr": -1e-3},
    "says n_features 0; expected a whole number above 0": ROW | {"n_features": 0},
    "says n_steps 2.5; expected": ROW | {"n_steps": 2.5},
    "says l1 1000000000000000000000000000000; expected a number below": ROW | {"l1": 10**30},
    "says d_in True; expected": ROW | {"d_in": True},
    "says fvu inf; expected": ROW | {"fvu": float("inf")},
    "says hook_name None; expected a name": ROW | {"hook_name": None},
    "it lacks dead": {name: value for name, value in ROW.items() if name != "dead"},
}


@pytest.mark.parametrize("message", ROWS)
def test_a_run_that_is_none_is_named_by_its_line(message: str, tmp_path: Path):
    (tmp_path / "runs.jsonl").write_text(json.dumps(ROW) + "\n" + json.dumps(ROWS[message]) + "\n")
    with pytest.raises(ValueError, match=f"runs.jsonl, line 2, .*(?i:{message})"):
        ScalingLaws.read(tmp_path / "runs.jsonl")


def test_an_empty_file_of_runs_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "runs.jsonl").touch()
    for args in (
        ["scaling", str(tmp_path / "runs.jsonl")],
        ["plan", "--d-in", "16", "--budget", "1e18", "--runs", str(tmp_path / "runs.jsonl")],
    ):
        assert "holds no runs: expected the JSON lines of a sweep" in shell(capsys, *args)


@pytest.mark.parametrize("budget", ["inf", "nan", "1e999", "-1e18", "0"])
def test_a_budget_that_is_no_amount_is_refused(budget: str, capsys: pytest.CaptureFixture[str]):
    assert "all must be positive and finite" in shell(capsys, "plan", "--d-in", "64", "--budget", budget, "--device", "h100")


def test_options_that_are_no_numbers_are_refused_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert "--budget '..': expected numbers" in shell(capsys, "plan", "--d-in", "64", "--budget", "..h", "--device", "h100")
    sweep = ["scaling", str(tmp_path / "runs.jsonl"), "--n-features", "inf", "--feature-steps", "65536", "--lrs", "1e-3"]
    assert "--n-features 'inf': expected whole numbers above 0" in shell(capsys, *sweep)


@pytest.mark.parametrize(
    "wrong", [{"lr": float("nan")}, {"l1": float("nan")}, {"l1": -1.0}, {"clip": float("inf")}, {"lr_decay": 2.0}], ids=str
)
def test_a_recipe_of_no_numbers_is_refused(wrong: dict[str, float]):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} is .*, expected a"):
        TrainConfig(d_sae=8, **wrong)  # pyright: ignore[reportArgumentType]


# indexes ----------------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def built(model_of, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("index")
    build_index(model_of("gpt2"), made_saes(), TEXTS[:20], folder, progress=False)
    return folder


@pytest.fixture
def damaged(built: Path, tmp_path: Path) -> Path:
    for path in built.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def views(folder: Path) -> list[Callable[[], Any]]:
    def index() -> FeatureIndex:
        return FeatureIndex.open(folder)

    return [
        lambda: index().feature(3),
        lambda: index().examples(3),
        lambda: index().table,
        lambda: index().to_html([3], folder / "pages", progress=False),
        lambda: index().sql("SELECT count(*) FROM examples"),
    ]


def test_parquet_damaged_at_its_size_is_named_when_it_is_first_read(damaged: Path):
    for kind, n_damaged in {"features": 3, "examples": 4}.items():
        path = damaged / f"{kind}-wide-00000.parquet"
        before = path.read_bytes()
        path.write_bytes(before[: len(before) // 2] + bytes([before[len(before) // 2] ^ 1]) + before[len(before) // 2 + 1 :])
        refused = []
        for view in views(damaged):
            try:
                view()
            except ValueError as error:
                assert str(path) in str(error) and "its SHA-256 is not the manifest's" in str(error)
                refused.append(view)
        assert len(refused) >= n_damaged, kind
        path.write_bytes(before)


def test_an_index_from_before_there_were_checksums_is_read(damaged: Path, built: Path):
    manifest = json.loads((damaged / "manifest.json").read_text())
    assert set(manifest["sha256"]) == set(manifest["files"])
    del manifest["sha256"]
    (damaged / "manifest.json").write_text(json.dumps(manifest))
    assert FeatureIndex.open(damaged).table.equals(FeatureIndex.open(built).table)


MANIFESTS: dict[str, Callable[[dict], Any]] = {
    "it holds a JSON list": lambda said: [said],
    "its files is": lambda said: said | {"files": list(said["files"])},
    "it lacks hook_name": lambda said: said | {"saes": {"wide": {"fingerprint": "x", "d_in": 32, "d_sae": 64}}},
    "it lacks n_tokens": lambda said: {name: value for name, value in said.items() if name != "n_tokens"},
    "it names no examples-wide-00001.parquet": lambda said: said | {"saes": {"wide": said["saes"]["wide"] | {"d_sae": 2000}}},
    "its files are not those of an index": lambda said: said | {"files": said["files"] | {"../x": 1}},
    "it names no SAE": lambda said: said | {"saes": {}},
    "'-1' stands in it": lambda said: said | {"n_tokens": -1},
}


@pytest.mark.parametrize("message", MANIFESTS)
def test_a_manifest_that_is_none_is_one_sentence(message: str, damaged: Path):
    said = MANIFESTS[message](json.loads((damaged / "manifest.json").read_text()))
    (damaged / "manifest.json").write_text(json.dumps(said))
    with pytest.raises(ValueError, match=f"manifest.json is damaged: .*{message}"):
        FeatureIndex.open(damaged)


LABELS = [[], {"wide": []}, {"wide": {"x": {"text": "a"}}}, {"wide": {"3": {"text": 3}}}, {"wide": {"3": {"text": "a", "score": "b"}}}]


@pytest.mark.parametrize("labels", LABELS, ids=str)
def test_labels_of_wrong_types_are_one_sentence_from_every_view(labels: Any, damaged: Path):
    (damaged / "labels.json").write_text(json.dumps(labels))
    index = FeatureIndex.open(damaged)
    for view in (lambda: index.feature(3), lambda: index.table, index.label_texts, index.facts):
        with pytest.raises(ValueError, match="labels.json holds no labels that can be read"):
            view()


def test_more_features_than_there_are_take_no_memory(built: Path, capsys: pytest.CaptureFixture[str]):
    assert "feature 99999999999 is out of range" in shell(capsys, "page", str(built), "0-99999999999")
    assert "is no feature" in shell(capsys, "page", str(built), "0-" + "9" * 5000)


# checkpoints ------------------------------------------------------------------------------------------------------------------------


def tensors(changed: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[dict, dict], None]:
    return lambda tensors, header: changed(tensors)


CHECKPOINTS: dict[str, Callable[[dict[str, torch.Tensor], dict[str, Any]], Any]] = {
    "it lacks 0/exp_avg.W_enc": tensors(lambda all: all.pop("0/exp_avg.W_enc")),
    "0/more is none of this run's": tensors(lambda all: all.update({"0/more": torch.zeros(2)})),
    r"0/b_enc is float32 \(1,\), expected float32 \(24,\)": tensors(lambda all: all.update({"0/b_enc": torch.zeros(1)})),
    "0/W_dec is bfloat16": tensors(lambda all: all.update({"0/W_dec": all["0/W_dec"].bfloat16()})),
    "0/since_fired is int32": tensors(lambda all: all.update({"0/since_fired": all["0/since_fired"].int()})),
    "0/b_dec holds NaN": tensors(lambda all: all["0/b_dec"].fill_(torch.nan)),
    "exp_avg_sq.b_dec holds values below 0": tensors(lambda all: all["0/exp_avg_sq.b_dec"].fill_(-1)),
    "0/counts are 99 steps of 15": tensors(lambda all: all["0/counts"].copy_(torch.tensor([99, 4000, 0.1]))),
    "its CRC-32 is another": tensors(lambda all: all["0/b_dec"].add_(0.25)),
    "says n_done -1": lambda all, header: header.update(n_done=-1),
    "says that 900 of 40 steps are done": lambda all, header: header.update(n_done=900),
    "says batch 'x'": lambda all, header: header.update(position={"batch": "x"}),
    "position has no 'batch'": lambda all, header: header.update(position={}),
    "neither run nor position": lambda all, header: header.update(run=3),
}


@pytest.mark.parametrize("message", CHECKPOINTS)
def test_a_checkpoint_that_no_such_run_wrote_is_refused(message: str, tmp_path: Path):
    with pytest.raises(ValueError, match="the stream ended after 15"):
        train(Planted(n_batches=15), CONFIG, progress=False, folder=tmp_path)
    path = tmp_path / CHECKPOINT_FILE
    with safe_open(path, "pt") as file:
        about = file.metadata()
    all_tensors, header = load_file(path), json.loads(about["header"])
    CHECKPOINTS[message](all_tensors, header)
    save_file(all_tensors, path, about | {"header": json.dumps(header)})
    with pytest.raises(ValueError, match=f"{CHECKPOINT_FILE} .*{message}"):
        train(Planted(), CONFIG, progress=False, folder=tmp_path)


POSITIONS = {
    "do not hold 1,000,000,000 texts": {"n_texts": 10**9},
    "do not hold": {"n_buffers": 0},
    "a buffer here deals 4 batches, that position is after 99": {"n_dealt": 99},
    "no position of a stream: n_buffers -1": {"n_buffers": -1},
    "no position of a stream: n_dealt None": {"n_dealt": None},
    "has no token 9,999": {"n_tokens": 9999},
}


@pytest.mark.parametrize("message", POSITIONS)
def test_a_position_that_no_stream_gave_is_refused_at_once(message: str, model):
    stream = made_activations(model)
    for _, _ in zip(range(6), stream, strict=False):
        pass
    position = stream.position()
    assert position["n_buffers"] == 1
    made_activations(model).seek(position)
    with limited(), pytest.raises(ValueError, match=message):
        made_activations(model).seek(position | POSITIONS[message])  # pyright: ignore[reportArgumentType]
