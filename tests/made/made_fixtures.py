"""Tiny random models of five families, saved as Hugging Face folders and loaded by load_model, and an SAE that many features fire in."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from made_folders import made_folders
from made_models import N_VOCAB, TEXT, n_hooks, random_hf_model, random_sae
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from workbench.bench import Workbench
from workbench.benches import load
from workbench.model.model import load_model
from workbench.sae.sae import SAE


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="module")
def no_labels_of_yours(tmp_path_factory: pytest.TempPathFactory):
    """A person's labels stay out of tests, tests out of the person's folder, and what one module's fixtures label out of another's."""
    os.environ["WORKBENCH_LABELS"] = str(tmp_path_factory.mktemp("labels") / "labels.json")


@pytest.fixture(autouse=True)
def own_labels(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a test's own."""
    path = tmp_path_factory.mktemp("labels") / "labels.json"
    monkeypatch.setenv("WORKBENCH_LABELS", str(path))
    return path


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE, built in memory: words of TEXT are one token each."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer, bpe.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=N_VOCAB, special_tokens=["<|start|>"], initial_alphabet=alphabet, show_progress=False)
    bpe.train_from_iterator([TEXT] * 3, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<|start|>", eos_token="<|start|>")


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerFast) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def folder(family: str) -> Path:
        if family not in made:
            made[family] = tmp_path_factory.mktemp(family)
            random_hf_model(family).save_pretrained(made[family])
            tokenizer.save_pretrained(made[family])
        return made[family]

    return folder


LOADED: dict[str, Any] = {}  # family → model, for the whole session


@pytest.fixture(scope="session")
def model_of(folder_of: Callable[[str], Path]):
    def model(family: str):
        if family not in LOADED:
            LOADED[family] = load_model(folder_of(family))
            LOADED[family](torch.zeros(1, 2, dtype=torch.long))  # the first pass wires hooks of the bridge's own, which stay
            LOADED[family].n_hooks_at_rest = n_hooks(LOADED[family])
        return LOADED[family]

    return model


@pytest.fixture
def model(model_of):
    return model_of("gpt2")


@pytest.fixture
def tokens() -> torch.Tensor:
    torch.manual_seed(1)
    return torch.cat([torch.zeros(1, 1, dtype=torch.long), torch.randint(1, N_VOCAB, (1, 11))], dim=1)


@pytest.fixture
def sae() -> SAE:
    return random_sae()


@pytest.fixture(autouse=True)
def no_hook_is_left():
    """Around every test, whatever it is about."""
    yield
    for family, model in LOADED.items():
        until = time.monotonic() + 20  # a pane's thread may still be at work, with hooks of its own
        while n_hooks(model) != model.n_hooks_at_rest and time.monotonic() < until:
            time.sleep(0.01)
        assert n_hooks(model) == model.n_hooks_at_rest, f"a hook was left in the {family} model"


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(a model's folder, an SAE's) as a user would have them."""
    return made_folders(tmp_path_factory.mktemp("folders"))


@pytest.fixture(scope="session")
def bench(folders: tuple[Path, Path]) -> Workbench:
    """The two of them loaded by name."""
    return load(str(folders[0]), sae=folders[1])


@pytest.fixture(scope="session")
def options_of_both(folders: tuple[Path, Path]) -> list[str]:
    """The same for a shell."""
    return ["--model", str(folders[0]), "--sae", str(folders[1])]
