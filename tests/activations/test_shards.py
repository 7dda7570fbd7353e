"""Activations kept on disk come back as they were, rounded; what is wrong with them is said by name."""

import json
from itertools import islice
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from workbench.activations import shards
from workbench.activations.shards import MANIFEST, ActivationShards, ShardError, write_shards
from workbench.activations.stream import ActivationStream

HOOK = "blocks.2.hook_resid_pre"
TEXTS = ["the cat sat", "the dog ran to the mat and the cat sat on the dog", "and the cat"] * 40


@pytest.fixture
def stream(model):
    return lambda **options: ActivationStream(model, TEXTS, HOOK, **{"batch": 16, "buffer": 64, **options})


@pytest.fixture
def folder(stream, tmp_path: Path) -> Path:
    write_shards(stream(), tmp_path, n_tokens=320, shard_tokens=100)
    return tmp_path


def test_what_is_read_back_is_what_was_written_to_bfloat16(stream, folder):
    written = list(islice(stream(), 20))
    read = list(ActivationShards(folder, batch=16))
    assert len(read) == 20
    for ours, theirs in zip(read, written, strict=True):
        assert ours.dtype == torch.float32
        assert torch.equal(ours, theirs.bfloat16().float())


def test_shards_say_what_a_stream_says(stream, folder):
    one, other = ActivationShards(folder, batch=16), stream()
    for name in ("hook_name", "model_name", "d_in", "scale", "start_token"):
        assert getattr(one, name) == getattr(other, name)
    assert one.start_token == "<|start|>"
    assert [shard.n_tokens for shard in one.shards] == [112, 112, 96]  # whole batches


@pytest.mark.parametrize("batch", [16, 24, 100, 320])
def test_batches_of_any_size_hold_the_same_tokens_in_order(folder, batch):
    whole = torch.cat(list(ActivationShards(folder, batch=16)))
    found = torch.cat(list(ActivationShards(folder, batch=batch)))
    assert torch.equal(found, whole[: 320 // batch * batch])


@pytest.mark.parametrize("n_before", [0, 1, 4, 5, 13])
def test_reading_goes_on_at_any_position(folder, n_before):
    whole = ActivationShards(folder, batch=24)
    batches = iter(whole)
    for _ in range(n_before):
        next(batches)
    fresh = ActivationShards(folder, batch=24)
    fresh.seek(whole.position())
    assert all(torch.equal(a, b) for a, b in zip(fresh, batches, strict=True))
    with pytest.raises(ValueError, match="batch_size 24 there, 16 here"):
        ActivationShards(folder, batch=16).seek(whole.position())


def test_a_writer_that_was_stopped_goes_on_to_the_same_files(stream, folder, tmp_path_factory, monkeypatch):
    other, write, written = tmp_path_factory.mktemp("other"), shards._write_shard, []

    def stopped(path, x):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(path)
        return write(path, x)

    monkeypatch.setattr(shards, "_write_shard", stopped)
    with pytest.raises(KeyboardInterrupt):
        write_shards(stream(), other, n_tokens=320, shard_tokens=100)
    monkeypatch.setattr(shards, "_write_shard", write)
    assert ActivationShards(other, batch=16).n_tokens == 224
    write_shards(stream(), other, n_tokens=320, shard_tokens=100)
    assert {path.name: path.read_bytes() for path in other.iterdir()} == {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_full_disk_leaves_the_shards_that_are_whole(stream, tmp_path, monkeypatch):
    def full(tensors, path, metadata):
        save_file(tensors, path, metadata)
        if (tmp_path / "00000.safetensors").exists():
            path.write_bytes(path.read_bytes()[:100])
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(OSError, match="No space left"):
        write_shards(stream(), tmp_path, n_tokens=320, shard_tokens=100)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00000.safetensors", MANIFEST]
    assert len(list(ActivationShards(tmp_path, batch=16))) == 7


def test_all_that_there_is_may_be_fewer_than_asked_for(stream, tmp_path):
    assert write_shards(stream(), tmp_path, n_tokens=10**6).n_tokens == sum(map(len, stream()))


def test_other_activations_are_not_mixed_in(model, folder):
    other = ActivationStream(model, TEXTS, "blocks.1.hook_resid_pre", batch=16, buffer=64)
    with pytest.raises(ShardError, match="hook_name 'blocks.2.hook_resid_pre' there, 'blocks.1.hook_resid_pre' here"):
        write_shards(other, folder, n_tokens=640)


def test_a_truncated_shard_is_said_by_name_before_anything_is_read(folder):
    path = folder / "00001.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ShardError, match=r"00001\.safetensors is truncated: 7,\d\d\d of 7,\d\d\d bytes"):
        ActivationShards(folder, batch=16)


def test_a_missing_shard_is_said_by_name(folder):
    (folder / "00002.safetensors").unlink()
    with pytest.raises(ShardError, match=r"00002\.safetensors is missing"):
        ActivationShards(folder, batch=16)


def test_a_changed_shard_is_noticed_when_it_is_read(folder):
    path = folder / "00001.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    batches = iter(ActivationShards(folder, batch=16))
    assert len(list(islice(batches, 7))) == 7
    with pytest.raises(ShardError, match=r"00001\.safetensors is not the file that was written"):
        next(batches)


def test_a_folder_of_something_else_is_said(tmp_path):
    (tmp_path / "model.bin").touch()
    with pytest.raises(ShardError, match=r"activations.json is missing \(found: model.bin\)"):
        ActivationShards(tmp_path)
    (tmp_path / MANIFEST).write_text("{")
    with pytest.raises(ShardError, match="is not JSON"):
        ActivationShards(tmp_path)
    (tmp_path / MANIFEST).write_text(json.dumps({"format": 1}))
    with pytest.raises(ShardError, match="it lacks d_in, hook_name"):
        ActivationShards(tmp_path)


def test_fewer_tokens_than_a_batch_are_an_error(folder):
    with pytest.raises(ShardError, match="holds 320 tokens, fewer than one batch of 2,048"):
        ActivationShards(folder)


def test_shards_of_before_do_not_say_what_led_the_texts_and_go_on(stream, folder):
    about = json.loads((folder / MANIFEST).read_text())
    del about["start_token"]
    (folder / MANIFEST).write_text(json.dumps(about))
    assert ActivationShards(folder, batch=16).start_token is None
    assert write_shards(stream(), folder, n_tokens=352, shard_tokens=100).start_token is None
