"""Every kind of file that is read, small and right; what a disk or a hand can do to one; and what became of reading it then.

refused        one sentence of a ValueError or an OSError
the same       what was read is what was written
another        what was read is something else: where the format keeps a checksum, wrong; where it has none, nobody could know
"""

import copy
import hashlib
import json
import math
import random
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from made_graph import made_graph
from made_index import TEXTS, made_saes
from made_models import random_sae
from made_runs import planted_runs
from made_stream import D_SAE, Planted
from made_transcoders import circuit_tracer_folder, random_transcoder
from made_writers import made_activations, made_map

from workbench.activations.shards import ActivationShards, write_shards
from workbench.activations.texts import read_texts
from workbench.atlas.build import known_labels
from workbench.circuits.graph.circuit import Circuit
from workbench.cli.options import prompt_or_chat
from workbench.features.index.index import FeatureIndex, build_index
from workbench.features.index.own_labels import OwnLabels
from workbench.features.index.parts import Correlate, Label
from workbench.features.search.rarity import Rarity
from workbench.features.survey.mapping import feature_map
from workbench.sae.sae import SAE
from workbench.sae.scaling.sweep import ScalingLaws
from workbench.sae.training.monitor import TrainingHistory
from workbench.sae.training.recipe import TrainConfig
from workbench.sae.training.train import train
from workbench.sae.transcoder import Transcoder, load_transcoders

LONGEST = 10  # seconds
CONFIG = TrainConfig(d_sae=D_SAE, n_steps=40, lr=3e-3)


@dataclass(frozen=True)
class Kind:
    """Files of one kind, in `folder`; `read` gives what is in them as plain data."""

    folder: Path
    read: Callable[[Path], Any]
    checked: tuple[str, ...] = ()  # endings of those whose bytes a checksum covers

    def files(self) -> list[Path]:
        return sorted(path for path in self.folder.rglob("*") if path.is_file() and path.suffix != ".partial")


def made_kinds(root: Path, model: Any) -> dict[str, Kind]:
    """All of them, written below root."""
    made: dict[str, Kind] = {}

    def add(name: str, write: Callable[[Path], Any], read: Callable[[Path], Any], checked: tuple[str, ...] = ()) -> None:
        folder = root / name
        folder.mkdir(parents=True, exist_ok=True)
        write(folder)
        made[name] = Kind(folder, read, checked)

    add("sae", lambda at: random_sae().fold_decoder_norms().save(at), lambda at: _dictionary(SAE.load(at)))
    add("transcoder", lambda at: random_transcoder("jumprelu").save(at), lambda at: _dictionary(Transcoder.load(at)))
    add(
        "transcoders",
        lambda at: circuit_tracer_folder(at / "set"),
        lambda at: [_dictionary(t) for t in load_transcoders(at / "set").values()],
    )
    add("pt", _pt, lambda at: _dictionary(SAE.load(at / "ae.pt", hook_name="blocks.0.hook_resid_pre")))
    add("npz", _npz, lambda at: _dictionary(SAE.load(at / "params.npz", hook_name="blocks.0.hook_resid_pre", model_name="x")))
    add("index", lambda at: _index(model, at), _read_index, (".parquet",))
    add("index without sums", lambda at: _index(model, at, has_sums=False), _read_index)
    add("checkpoint", _stopped, _resumed, (".safetensors",))
    add("shards", lambda at: write_shards(made_activations(model), at, 600, 256), _shards, (".safetensors",))
    add(
        "runs",
        lambda at: planted_runs(widths=[8, 64, 512], lrs=[1e-3, 1e-2]).to_json(at / "runs.jsonl", orient="records", lines=True),
        _runs,
    )
    add("metrics", lambda at: train(Planted(), CONFIG, progress=False, folder=at) and (at / "cfg.json").unlink(), _history)
    add("texts", _texts, lambda at: [list(read_texts(path)) for path in sorted(at.iterdir())])
    add("graph", lambda at: made_graph().to_json(at / "graph.json"), lambda at: _graph(Circuit.load(at / "graph.json")))
    add("own labels", lambda at: OwnLabels(at / "mine.json").put("abc", {3: Label("cats"), 4: Label("a dog")}), _own)
    add("atlas labels", lambda at: (at / "labels.json").write_text('{"3": "team:Lakers 0.90", "17": "state:Ohio 0.61"}\n'), _atlas_labels)
    add(
        "chat",
        lambda at: (at / "chat.json").write_text('[{"role": "user", "content": "hello"}]'),
        lambda at: prompt_or_chat(None, at / "chat.json"),
    )
    return made


def _dictionary(it: Any) -> Any:
    assert all(torch.isfinite(weight).all() for weight in it.parameters()), "a weight that is no number was taken"
    return it.fingerprint(), it.cfg


def _pt(at: Path) -> None:
    sae = random_sae()
    names = {"encoder.weight": sae.W_enc.T, "encoder.bias": sae.b_enc, "decoder.weight": sae.W_dec.T, "bias": sae.b_dec}
    torch.save({name: weight.contiguous() for name, weight in names.items()}, at / "ae.pt")


def _npz(at: Path) -> None:
    sae = random_sae()
    names = {"W_enc": sae.W_enc, "b_enc": sae.b_enc, "W_dec": sae.W_dec, "b_dec": sae.b_dec, "threshold": sae.b_enc.abs()}
    np.savez(at / "params.npz", **{name: weight.numpy() for name, weight in names.items()})


def _index(model: Any, at: Path, has_sums: bool = True) -> None:
    saes = made_saes()
    index = build_index(model, saes, TEXTS[:12], at, progress=False)
    index.save_labels({3: Label("cats", 0.5, "token statistics")})
    index.save_neurons({3: [Correlate("blocks.1.mlp 3", 0.5)]})
    made_map(saes, index)
    if not has_sums:
        manifest = json.loads((at / "manifest.json").read_text())
        (at / "manifest.json").write_text(json.dumps({name: value for name, value in manifest.items() if name != "sha256"}))


def _read_index(at: Path) -> Any:
    index = FeatureIndex.open(at)
    pages = [copy.deepcopy(vars(index.feature(feature))) for feature in (3, 7, 20)]
    rarity = Rarity.of(index)
    texts = index.sql("SELECT * FROM texts ORDER BY row").to_json()
    found = [pages, index.table.to_json(), index.facts(), rarity.bits_of_interval.tobytes(), texts]
    return [*found, feature_map(made_saes(), index).table.to_json(), index.with_sae("narrow").table.to_json()]


class Short(Planted):
    """A stream that ends before the run does."""

    def __init__(self) -> None:
        super().__init__(n_batches=15)


def _stopped(at: Path) -> None:
    try:
        train(Short(), CONFIG, progress=False, folder=at)
    except ValueError:
        (at / "metrics.jsonl").unlink()


def _resumed(at: Path) -> Any:
    from workbench.sae.training.checkpoint import Checkpoint
    from workbench.sae.training.learner import Learner, new_sae
    from workbench.sae.training.source import describe, source_of

    stream = Planted()
    source = source_of(stream, CONFIG)
    checkpoint = Checkpoint(at, [describe(source, CONFIG)], stream, 10)
    n_done = checkpoint.seek()
    learner = Learner(source, CONFIG, new_sae(source, CONFIG, torch.device("cpu")))
    checkpoint.restore([learner])
    return n_done, stream.next, {name: value.tolist() for name, value in learner.state().items()}


def _shards(at: Path) -> Any:
    found = ActivationShards(at, batch=64)
    assert math.isfinite(found.scale)
    return [hashlib.sha256(x.numpy().tobytes()).hexdigest() for x in found], found.scale, found.hook_name


def _runs(at: Path) -> Any:
    laws = ScalingLaws.read(at / "runs.jsonl")
    repr(laws)
    columns = laws.runs.select_dtypes("number")
    assert np.isfinite(columns.to_numpy(float)).all() and (laws.runs["loss"] > 0).all(), "a run that is none was taken"
    return laws.runs.to_json()


def _history(at: Path) -> Any:
    history = TrainingHistory.read(at)
    return repr(history), history.table.to_json()


def _texts(at: Path) -> None:
    (at / "a.txt").write_text("\n\n".join(TEXTS[:9]))
    (at / "b.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS[:9]))
    pq.write_table(pa.Table.from_pandas(pd.DataFrame({"text": TEXTS[:40]})), at / "c.parquet", write_page_checksum=True)


def _graph(circuit: Circuit) -> Any:
    repr(circuit)
    assert np.isfinite(circuit.influence.to_numpy()).all()
    return circuit.nodes.to_json(), circuit.edges.to_json(), circuit.groups


def _own(at: Path) -> Any:
    found = OwnLabels(at / "mine.json").of("abc")
    assert all(isinstance(label.text, str) for label in found.values())
    return found


def _atlas_labels(at: Path) -> Any:
    found = known_labels(at / "labels.json")
    assert all(label.score is not None and math.isfinite(label.score) for label in found.values())
    return found


# What can happen to a file ----------------------------------------------------------------------------------------------------------

ODD: list[Any] = [
    None,
    [],
    {},
    "",
    "x",
    -1,
    0,
    1.5,
    1e300,
    10**30,
    10**400,
    True,
    [None],
    {"a": 1},
    math.nan,
    math.inf,
    [[]],
    "\ud800",
    "1",
]
WHOLE = {
    "nothing": b"",
    "a web page": b"<!DOCTYPE html><title>404</title>",
    "a pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    "a pickle": b"\x80\x04\x95\x00",
    "no UTF-8": b"\xff\xfe\xfa\x00\x80" * 9,
    "nested": b"[" * 200_000,
    "nested objects": b'{"a":' * 100_000,
    "a list": b"[1, 2, 3]",
    "a number": b"1e999",
    "digits": b"1" * 9000,
    "zeros": b"\0" * 512,
}


def flipped(data: bytes, rng: random.Random) -> bytes:
    """One byte is another."""
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ rng.randrange(1, 256)]) + data[at + 1 :]


def cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))]


def longer(data: bytes, rng: random.Random) -> bytes:
    return data + rng.randbytes(rng.randint(1, 40))


def zeroed(data: bytes, rng: random.Random) -> bytes:
    """A block of the disk that was never written."""
    at, n = rng.randrange(len(data)), rng.choice([1, 16, 512])
    return data[:at] + b"\0" * len(data[at : at + n]) + data[at + n :]


def replaced(data: bytes, rng: random.Random) -> bytes:
    return WHOLE[rng.choice(list(WHOLE))]


def edited(data: bytes, rng: random.Random) -> bytes:
    """A value of its JSON, or of a line's, is another one, or missing; bytes are flipped where it is no JSON."""
    lines = data.split(b"\n")
    for number in [None, rng.randrange(len(lines))]:
        try:
            said = json.loads(data if number is None else lines[number])
        except (ValueError, RecursionError):
            continue
        text = json.dumps(_edited(said, rng)).encode("utf-8", "replace")
        return text if number is None else b"\n".join([*lines[:number], text, *lines[number + 1 :]])
    return flipped(data, rng)


def _edited(said: Any, rng: random.Random) -> Any:
    places = list(_places(said))
    if not places or rng.random() < 0.05:
        return rng.choice(ODD)
    holder, key = rng.choice(places)
    if rng.random() < 0.25:
        del holder[key]
    else:
        holder[key] = copy.deepcopy(rng.choice(ODD))
    return said


def _places(said: Any) -> Iterator[tuple[Any, Any]]:
    for key, value in list(said.items() if isinstance(said, dict) else enumerate(said) if isinstance(said, list) else ()):
        yield said, key
        yield from _places(value)


DAMAGES: list[Callable[[bytes, random.Random], bytes]] = [flipped, cut, longer, zeroed, replaced, edited]


# What becomes of reading it ---------------------------------------------------------------------------------------------------------


class Hang(BaseException):
    """Reading took longer than LONGEST."""


@contextmanager
def limited() -> Iterator[None]:
    def ring(*_: Any) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(LONGEST)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def outcome(kind: Kind, file: Path, damaged: bytes, right: Any) -> str:
    """Of reading the kind's files while one of them is damaged."""
    before = file.read_bytes()
    file.write_bytes(damaged)
    try:
        with limited():
            found = kind.read(kind.folder)
    except (ValueError, OSError) as error:
        return "refused" if len(str(error).splitlines()) == 1 else f"several lines: {error}"
    except Hang:
        return "hang"
    except Exception as error:
        return f"traceback: {type(error).__name__}: {error}"
    finally:
        file.write_bytes(before)
    if repr(found) == repr(right):
        return "the same"
    return "wrong: a checksum covers it" if file.suffix in kind.checked else "another, and nothing can tell"
