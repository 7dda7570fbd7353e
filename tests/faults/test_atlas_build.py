"""The atlas's build, killed anywhere, ends with the files of an unbroken one: each stage's come by one rename, in their last form."""

import os
import random
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from made_kills import killed_at
from made_writers import without_clock
from safetensors.torch import load_file, save_file

from workbench.atlas import build as recipe
from workbench.sae.config import SAEConfig, TranscoderConfig
from workbench.sae.sae import SAE
from workbench.sae.transcoder import Transcoder

D_IN = 8


def filled(dictionary: Any, seed: int) -> Any:
    rng = torch.Generator().manual_seed(seed)
    for weight in dictionary.parameters():
        weight.data = torch.randn(weight.shape, generator=rng)
    return dictionary.requires_grad_(False)


def build_model(folder: Path, tokenizer: Any, recipe: Any, device: str, *, checkpoints: Path) -> None:
    (checkpoints / "checkpoint.pt").write_bytes(b"where it stood")
    save_file({"w": torch.arange(6.0) / 7}, folder / "model.safetensors", {"format": "pt"})


def build_tokenizer(folder: Path, recipe: Any) -> None:
    (folder / "tokenizer.json").write_text("{}")


def build_twin(model_folder: Path, name: str) -> dict[str, torch.Tensor]:
    return {"w.down": torch.arange(len(name)).half()}


def train_one(stream: Any, config: Any, folder: Path) -> SAE:
    sae = filled(SAE(SAEConfig(D_IN, 16, recipe.HOOK_NAME)), config.d_sae)
    sae.save(folder)
    return sae


def train_many(stream: Any, configs: Any, folder: Path, predict: Any = None) -> list[Any]:
    if predict is None:
        made: list[Any] = [SAE(SAEConfig(D_IN, 16, each.hook_name)) for each in configs]
    else:
        pairs = zip(configs, predict, strict=True)
        made = [Transcoder(TranscoderConfig(D_IN, D_IN, 16, each.hook_name, place)) for each, place in pairs]
    for n, dictionary in enumerate(made):
        filled(dictionary, n).save(folder / str(n))
    return made


def build(out: Path) -> None:
    """The build, its stages ones that take no time."""
    model = SimpleNamespace(cfg=SimpleNamespace(device="cpu", n_layers=3))
    streams = dict.fromkeys(("ActivationStream", "ActivationStreams"), lambda *args, **options: SimpleNamespace())
    stages = {"build_model": build_model, "build_tokenizer": build_tokenizer, "train": train_one, "train_many": train_many}
    stages |= {"build_twin": build_twin, "build_talker": build_twin}
    rest = {"load_model": lambda *args, **options: model, "label": lambda key: {3: "team:Lakers 0.90"}}
    rest |= {"AnswerKey": SimpleNamespace(read=lambda *args: None), "write_index": lambda *args: None, "write_scores": lambda *args: None}
    rest["merged"] = lambda model, dictionaries, **how: dict(dictionaries)
    rest["AutoTokenizer"] = SimpleNamespace(from_pretrained=lambda folder: SimpleNamespace(vocab_size=recipe.ModelRecipe().d_vocab))
    with pytest.MonkeyPatch.context() as patched:
        for name, stage in (streams | stages | rest).items():
            patched.setattr(recipe, name, stage)
        patched.setattr(recipe, "N_LABEL_TEXTS", 1)
        recipe.build(out)


def test_a_build_killed_anywhere_ends_with_the_files_of_an_unbroken_one(tmp_path: Path):
    with killed_at(0) as calls:
        build(tmp_path / "whole")
    n_calls, whole, rng = calls.n, without_clock(tmp_path / "whole"), random.Random(0)
    halved = [name for name in whole if name.endswith(".safetensors")]
    assert len(halved) == 1 + len(recipe.SAES) + len(recipe.LAYERS) + 3 + len(recipe.KEYS) and not any("training" in name for name in whole)
    assert all(weight.dtype == torch.float16 for name in halved for weight in load_file(tmp_path / "whole" / name).values())
    for at_call in [rng.randint(1, n_calls // 2) for _ in range(int(os.environ.get("FAULTS", 0)) // 10 or 12)]:
        with killed_at(at_call) as calls:
            build(tmp_path / "killed")
        if calls.n < at_call:  # it is done: the next ones die in a new one
            shutil.rmtree(tmp_path / "killed")
        for name, data in without_clock(tmp_path / "killed").items():
            assert name not in whole or data == whole[name], f"{name} is there, and not as it will stay"
    build(tmp_path / "killed")
    assert without_clock(tmp_path / "killed") == whole
    assert not list((tmp_path / "killed").rglob("*.partial"))
