"""Files that are no SAE are refused in one sentence that says what they look like; nothing in them is executed."""

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from foreign_saes import HOOK, Parts
from safetensors.torch import save_file

from workbench.sae.config import SAEError
from workbench.sae.sae import SAE


class Malice:
    def __reduce__(self):
        return os.mkdir, ("executed",)


def malicious_pickle(folder: Path) -> None:
    (folder / "ae.pt").write_bytes(pickle.dumps({"encoder.weight": Malice()}))


def malicious_torch_file(folder: Path) -> None:
    torch.save({"encoder.weight": Malice()}, folder / "ae.pt")


def object_array(folder: Path) -> None:
    np.savez(folder / "params.npz", W_enc=np.array([Malice()], dtype=object))


def whole_module(folder: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), folder / "ae.pt")


def bytes_in(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(content) and None


def half_of(name: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        weights = Parts().plain()
        if name.endswith(".npz"):
            np.savez(folder / name, **{key: weight.numpy() for key, weight in weights.items()})
        else:
            (save_file if name.endswith(".safetensors") else torch.save)(weights, folder / name)
        (folder / name).write_bytes((folder / name).read_bytes()[:-900])

    return write


def a_language_model(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    save_file({"wte.weight": torch.zeros(2, 2)}, folder / "model.safetensors")


def two_files(folder: Path) -> None:
    for name in ("a.safetensors", "b.safetensors"):
        save_file({"W_enc": torch.zeros(2, 2)}, folder / name)


def a_list(folder: Path) -> None:
    torch.save([torch.zeros(2)], folder / "ae.pt")


def folders_only(folder: Path) -> None:
    (folder / "layer_3").mkdir()


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 5\n"
REFUSED = {
    malicious_pickle: "is a pickle that would execute code.*: refused",
    malicious_torch_file: "is a pickle that would execute code .*mkdir.*: refused",
    whole_module: "is a pickle that would execute code .*Linear.*: refused",
    object_array: "holds Python objects, not only numbers: refused",
    bytes_in("sae_weights.safetensors", POINTER): "git-lfs pointer: fetch the file itself",
    bytes_in("ae.pt", b"<!DOCTYPE html><html>"): "looks like a web page",
    bytes_in("params.npz", b'{"error": "not found"}'): "looks like JSON",
    bytes_in("sae.safetensors", b""): "the file is empty",
    bytes_in("ae.pt", b"\x00\x01\x02" * 50): "ae.pt is not a torch file .unknown content",
    half_of("params.safetensors"): "params.safetensors is truncated or not a safetensors file",
    half_of("params.npz"): "params.npz is truncated or damaged .it begins as a zip archive does",
    half_of("ae.pt"): "ae.pt is truncated or not a torch file .it begins as a zip archive does",
    a_language_model: "its tensors are wte.weight; 'gpt2' is a language model's",
    a_list: "holds a list, expected tensors by name",
    two_files: r"several files of weights: name one of them \(found: a.safetensors, b.safetensors\)",
    folders_only: r"none of sae_weights.safetensors, .* is there \(found: layer_3/\)",
}


@pytest.mark.parametrize("write", REFUSED, ids=lambda write: REFUSED[write][:30])
def test_what_is_no_sae_is_one_error_that_says_what_it_looks_like(write: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = tmp_path / "sae"
    folder.mkdir()
    write(folder)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SAEError, match=REFUSED[write]) as caught:
        SAE.load(folder, hook_name=HOOK)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "executed").exists()


def test_the_malice_of_these_tests_would_execute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    pickle.loads(pickle.dumps(Malice()))
    assert (tmp_path / "executed").exists()
