"""A build that is cut off, however, ends with the files of an unbroken one; how texts are cut up changes nothing; memory is bounded."""

import os
import random
import shutil
import signal
import sys
from pathlib import Path

import pytest
import torch
from made_index import TEXTS, contents, made_texts
from made_models import random_sae
from made_process import in_process

from workbench.features.index.building import collect as collecting
from workbench.features.index.index import FeatureIndex, build_index
from workbench.model.head import Head
from workbench.model.model import load_model
from workbench.sae.config import SAEConfig
from workbench.sae.sae import SAE


def test_all_saes_of_one_pass_are_as_each_alone(index: FeatureIndex, model, saes, tmp_path: Path):
    alone = build_index(model, {"narrow": saes["narrow"]}, TEXTS, tmp_path, progress=False)
    of_both = index.with_sae("narrow")
    assert alone.table.equals(of_both.table)
    assert alone.feature(3).table.equals(of_both.feature(3).table)


def test_many_parts_and_small_chunks_give_the_same_files(index: FeatureIndex, model, saes, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(collecting, "MOST", 500)
    monkeypatch.setattr(collecting, "MOST_PARTS", 3)
    monkeypatch.setitem(collecting.BATCH, "cpu", 100)
    build_index(model, saes, TEXTS, tmp_path / "a", progress=False)
    monkeypatch.setattr(collecting, "MOST", 2**30)
    build_index(model, saes, TEXTS, tmp_path / "b", progress=False)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def _resident() -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    return 1024 * int(line.split()[1])


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="counts memory as Linux does")
def test_memory_does_not_grow_with_the_tokens_read(model):
    """Feature activations of 16 MB come and go; what is kept of them, a few hundred entries a call, must not lie in their place."""
    wide = SAE(SAEConfig(32, 2**16, "blocks.1.hook_resid_pre")).requires_grad_(False)
    wide.b_enc -= 1
    wide.b_enc[:20] += 2
    head, pending = Head(model, [wide.cfg.hook_name]), collecting.Pending(["wide"])
    rows = [[5] * 60] * 2
    for _ in range(10):
        pending.read(head, {"wide": wide}, rows)
    before = _resident()
    for _ in range(50):
        pending.read(head, {"wide": wide}, rows)
    assert pending.n_entries == 60 * 120 * 20
    assert _resident() - before < 100e6


def test_the_size_of_shards_changes_nothing_that_is_shown(index: FeatureIndex, model, saes, tmp_path: Path):
    other = build_index(model, saes, iter(TEXTS), tmp_path, shard=300, progress=False)
    assert len(list(tmp_path.glob("texts-*.parquet"))) > 10
    assert other.table["n_active"].tolist() == pytest.approx(index.table["n_active"].tolist(), abs=1)
    for feature in (0, 7, 20):
        one, same = index.feature(feature), other.feature(feature)
        assert [(each.text, each.peak) for each in one.top] == [(each.text, each.peak) for each in same.top]
        drawn = [[{(each.text, each.peak) for each in interval.examples} for interval in page.intervals] for page in (one, same)]
        assert drawn[0] == drawn[1]


def build_and_die(model_folder: Path, saes: dict[str, SAE], folder: Path, at_call: int = 0) -> None:
    """at_call: at which of our own functions' calls, of theirs and returns the process kills itself. Without one it writes their number."""
    model, n_calls, own = load_model(model_folder), 0, str(Path(collecting.__file__).parents[2])

    def count(frame, event: str, argument) -> None:
        nonlocal n_calls
        n_calls += frame.f_code.co_filename.startswith(own)
        if n_calls == at_call:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(count)
    build_index(model, saes, TEXTS[:20], folder, shard=200, progress=False)
    sys.setprofile(None)
    folder.with_suffix(".calls").write_text(str(n_calls))


@pytest.mark.slow
def test_a_build_killed_at_random_points_ten_times_equals_an_unbroken_one(folders, tmp_path: Path):
    """Each time a process is killed without a chance to clean up, at a call drawn at random from the first half of a whole build's. Calls
    are counted, not seconds: a busy machine kills at the same places."""

    one = SAE.load(folders[1])
    saes = {"one": one, "other": random_sae(one.cfg.hook_name, one.cfg.d_in)}

    def build(name: str, at_call: int = 0) -> int | None:
        return in_process(build_and_die, folders[0], saes, tmp_path / name, at_call)

    assert build("unbroken") == 0
    n_calls, unbroken = int((tmp_path / "unbroken.calls").read_text()), contents(tmp_path / "unbroken")
    rng, places, n_killed = random.Random(0), set(), 0
    while n_killed < 10:
        ended = build("killed", rng.randint(1, n_calls // 2))
        assert ended in (0, -signal.SIGKILL)
        n_killed += ended != 0
        places.add(len(list((tmp_path / "killed").rglob("*"))))
        if (tmp_path / "killed" / "manifest.json").exists():  # done: the next kills hit a new build
            assert {name: data for name, data in contents(tmp_path / "killed").items() if name in unbroken} == unbroken
            shutil.rmtree(tmp_path / "killed")
    assert build("killed") == 0
    assert contents(tmp_path / "killed") == unbroken
    assert len(places) > 3, f"all kills hit the same places: {places}"


@pytest.mark.parametrize("n_batches", [0, 2, 4])
def test_ctrl_c_leaves_nothing_half_written_and_the_next_call_goes_on(model, saes, tmp_path: Path, monkeypatch, n_batches: int):
    calls = []

    def interrupted(head: Head, tokens: torch.Tensor):
        calls.append(tokens)
        if len(calls) > n_batches:
            raise KeyboardInterrupt
        return run(head, tokens)

    run = Head.__call__
    monkeypatch.setattr(Head, "__call__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build_index(model, saes, TEXTS[:20], tmp_path / "a", shard=300, progress=False)
    with pytest.raises(ValueError, match="unfinished index"):
        FeatureIndex.open(tmp_path / "a")
    monkeypatch.setattr(Head, "__call__", run)
    done = len(list((tmp_path / "a" / "shards").glob("*/shard.json")))
    build_index(model, saes, TEXTS[:20], tmp_path / "a", shard=300, progress=False)
    assert done >= n_batches // 2
    assert contents(tmp_path / "a") == contents(build_index(model, saes, TEXTS[:20], tmp_path / "b", shard=300, progress=False).folder)


def test_an_index_that_is_finished_is_not_built_again(index: FeatureIndex, model, saes, monkeypatch):
    monkeypatch.setattr(Head, "__call__", lambda *args: pytest.fail("it was"))
    before = contents(index.folder)
    build_index(model, saes, TEXTS, index.folder, progress=False)
    assert contents(index.folder) == before


def test_texts_that_changed_since_a_build_was_cut_off_are_noticed(model, saes, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("workbench.features.index.building.build.finish", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        build_index(model, saes, TEXTS, tmp_path, shard=300, progress=False)
    with pytest.raises(ValueError, match=r"shard 0 texts are \w{12}, there \w{12}"):
        build_index(model, saes, made_texts(seed=1), tmp_path, shard=300, progress=False)


def test_activations_that_are_no_numbers_stop_the_build(model, saes, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(Head, "__call__", lambda head, tokens: {head.hook_names[0]: torch.full((*tokens.shape, 32), torch.nan)})
    with pytest.raises(ValueError, match="blocks.1.hook_resid_pre hold .* NaN"):
        build_index(model, saes, TEXTS, tmp_path, progress=False)
