"""What a person sees of a training run while it goes on, what is left of it on disk, and what stops it or is refused."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from made_stream import D_IN, D_SAE, Planted

from workbench.sae.training.monitor import TrainingHistory, is_notebook
from workbench.sae.training.source import Source, source_of
from workbench.sae.training.train import TrainConfig, train, train_many


def test_metrics_go_to_the_callback_and_to_the_file(tmp_path):
    seen = []
    sae = train(Planted(), TrainConfig(d_sae=D_SAE, n_steps=100), progress=False, folder=tmp_path, on_metrics=seen.append)
    assert [row["step"] for row in seen] == list(range(10, 101, 10))
    assert seen == [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    table = TrainingHistory.read(tmp_path).table
    assert table["loss"].iloc[-1] == pytest.approx(sae.cfg.metadata["loss"], rel=0.3)
    assert table["lr"].iloc[-1] == pytest.approx(1e-3 / 20) and table["tokens"].iloc[-1] == 100 * 256


def test_a_history_shows_itself_without_scripts(tmp_path):
    train_many(Planted(), [TrainConfig(d_sae=8, n_steps=50)] * 2, progress=False, folder=tmp_path)
    history = TrainingHistory.read(tmp_path)
    shown = history._repr_mimebundle_()
    assert shown["text/html"].count("<img") == 4 and "<script" not in shown["text/html"] and len(json.dumps(shown)) < 100_000
    assert repr(history).splitlines()[1].startswith("SAE 1, step 50: loss ")
    with pytest.raises(ValueError, match="not the folder of a training run"):
        TrainingHistory.read(tmp_path / "elsewhere")


def test_in_a_notebook_one_light_figure_is_drawn_anew(tmp_path, monkeypatch: pytest.MonkeyPatch):
    class Handle:
        def __init__(self):
            self.shown = []

        def update(self, history: TrainingHistory) -> None:
            self.shown.append(json.dumps(history._repr_mimebundle_()))

    handles = []

    def display(history: TrainingHistory, display_id: bool) -> Handle:
        handles.append(Handle())
        handles[-1].update(history)
        return handles[-1]

    monkeypatch.setattr("workbench.sae.training.monitor.is_notebook", lambda: True)
    monkeypatch.setattr("workbench.sae.training.monitor.DRAW_AFTER", 0)
    monkeypatch.setattr("workbench.sae.training.monitor.DRAW_SHARE", 0)
    monkeypatch.setattr("IPython.display.display", display)
    train(Planted(), TrainConfig(d_sae=8, n_steps=50))
    (handle,) = handles
    assert len(handle.shown) == 6, "at steps 10, 20, 30, 40, 50 and at the end"
    assert "step 50" not in handle.shown[0] and "step 50" in handle.shown[-1]
    assert max(map(len, handle.shown)) < 50_000
    train(Planted(), TrainConfig(d_sae=8, n_steps=10), progress=False)
    assert len(handles) == 1, "asked for no progress"


def test_outside_of_a_notebook_there_is_no_figure():
    assert not is_notebook()


def test_the_plan_and_the_live_line_are_on_stderr(capsys):
    train(Planted(), TrainConfig(d_sae=D_SAE, n_steps=30))
    out, err = capsys.readouterr()
    assert not out and "of memory (weights " in err and "min if every step is dense" in err
    assert "loss " in err and "dead " in err and "tokens/s" in err


def test_a_stream_that_ends_early_says_so():
    with pytest.raises(ValueError, match="ended after 15 of 20 steps"):
        train(Planted(n_batches=15), TrainConfig(d_sae=8, n_steps=20), progress=False)


def test_infinite_activations_stop_training_with_batch_and_hook():
    with pytest.raises(ValueError, match=r"batch 3 at blocks\.0\.hook_resid_pre: 1 of 4,096 activations"):
        train(Planted(bad_batch=3), TrainConfig(d_sae=D_SAE, n_steps=20), progress=False)


def test_a_training_that_diverges_says_so():
    stream = Planted()
    stream.scale = 1e25
    with pytest.raises(ValueError, match="diverged, try an lr below 0.001"):
        train(stream, TrainConfig(d_sae=D_SAE, n_steps=20), progress=False)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (dict(n_steps=0), "n_steps=0 asks for no step"),
        (dict(lr=-1.0), "lr is -1.0"),
        (dict(precision="float16"), "there is float32, bfloat16"),
        (dict(architecture="relu"), "there is standard, topk, batchtopk, jumprelu"),
        (dict(architecture="topk"), "needs k"),
        (dict(k=3), "belongs to topk"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused_when_it_is_made(wrong: dict, words: str):
    with pytest.raises(ValueError, match=words):
        TrainConfig(d_sae=8, **wrong)


def test_numbers_of_a_sweep_are_pythons_own_which_json_takes():
    plain = TrainConfig(8, n_steps=3, lr=0.5, architecture="topk", k=2, seed=1)
    swept = replace(plain)
    for name, value in dict(d_sae=np.int64(8), n_steps=np.int64(3), lr=np.float32(0.5), k=np.int32(2), seed=np.int64(1)).items():
        object.__setattr__(swept, name, value)  # as without the checks of annotations that pytest makes
    swept.__post_init__()
    assert json.dumps(asdict(swept)) == json.dumps(asdict(plain))
    plain = TrainConfig(64, architecture="batchtopk", k=2, widths=(16, 32))
    swept = replace(plain)
    object.__setattr__(swept, "widths", tuple(np.array([16, 32])))
    swept.__post_init__()
    assert json.dumps(asdict(swept)) == json.dumps(asdict(plain))


def test_a_batch_of_one_token_is_refused():
    class One(Planted):
        def sample(self, seed: int) -> torch.Tensor:
            return super().sample(seed)[:1]

    with pytest.raises(ValueError, match="batches of one token, of which no variance is known"):
        train(One(), TrainConfig(d_sae=8, n_steps=5), progress=False)


def test_a_source_of_another_hook_point_is_refused():
    assert source_of(Planted(), TrainConfig(8)) == Source("blocks.0.hook_resid_pre", "planted", D_IN, Planted().scale)
    with pytest.raises(ValueError, match="the config is for blocks.1, the stream reads blocks.0.hook_resid_pre"):
        source_of(Planted(), TrainConfig(8, hook_name="blocks.1"))
