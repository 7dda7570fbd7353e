"""One start token a model: read from what the files say, overruled by whoever loads, and the same for everything that makes rows."""

from pathlib import Path

import numpy as np
import pytest
import torch
from made_models import N_VOCAB, random_hf_model, random_sae
from made_tokenizers import byte_tokenizer, pieces_tokenizer

from workbench.activations.rows import Rows
from workbench.activations.stream import ActivationStream
from workbench.bench import Workbench
from workbench.benches import load
from workbench.circuits.metrics import logit_diff
from workbench.circuits.steering.generation import end_tokens
from workbench.features.index.index import build_index
from workbench.features.search.codes import encode
from workbench.model.model import load_model
from workbench.model.start import start_token
from workbench.model.tokens import is_start_token, to_tokens
from workbench.sae.evaluate import evaluate
from workbench.sae.training.recipe import TrainConfig
from workbench.sae.training.train import train

NAMED = dict(bos_token="<s>", eos_token="</s>")
TOKENIZERS = {
    "neither": lambda: byte_tokenizer(),
    "end only": lambda: byte_tokenizer(("</s>",), eos_token="</s>"),
    "named": lambda: byte_tokenizer(("<s>", "</s>"), **NAMED),
    "its own": lambda: byte_tokenizer(("<s>", "</s>"), prefix="<s>", **NAMED),
    "two of its own": lambda: byte_tokenizer(("<g>", "<s>", "</s>"), prefix="<g> <s>", **NAMED),
    "beyond": lambda: byte_tokenizer(("<s>", "</s>"), first=N_VOCAB, **NAMED),
    "its own beyond": lambda: byte_tokenizer(("<s>", "</s>"), prefix="<s>", first=N_VOCAB, **NAMED),
    "pieces": pieces_tokenizer,
}
EXPECTED = {  # what leads a text, where TransformerLens prepends for the architecture, and where it does not
    "neither": ([], []),
    "end only": ([], []),
    "named": ([0], []),
    "its own": ([0], [0]),
    "two of its own": ([0, 1], [0, 1]),
    "pieces": ([1], [1]),
}
TEXTS = ["the cat sat on the mat", "the dog", "a cat ran in the rain to a dog"]


def folder_with(family: str, kind: str, folder: Path) -> Path:
    random_hf_model(family).save_pretrained(folder)
    TOKENIZERS[kind]().save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", EXPECTED)
@pytest.mark.parametrize(("family", "column"), [("gpt2", 0), ("neox", 1), ("qwen3", 1)])
def test_what_leads_a_text_is_what_the_files_say_from_a_folder_and_from_objects(family, column, kind, tmp_path):
    for model in (load_model(folder_with(family, kind, tmp_path)), load_model(random_hf_model(family), tokenizer=TOKENIZERS[kind]())):
        expected = EXPECTED[kind][column]
        (ids,) = to_tokens(model, "the cat").tolist()
        assert list(start_token(model).ids) == expected and ids[: len(expected)] == expected
        assert ids[len(expected) :] == model.tokenizer("the cat", add_special_tokens=False)["input_ids"]
        if len(expected) < 2:
            assert model.to_tokens("the cat").tolist() == [ids]  # what a notebook types itself agrees


@pytest.mark.parametrize("kind", ["named", "end only", "two of its own"])
@pytest.mark.parametrize("family", ["gpt2", "neox"])
def test_rank_find_steer_train_evaluate_and_the_index_see_the_same_ids(family, kind, tmp_path, monkeypatch):
    model, sae = load_model(folder_with(family, kind, tmp_path / "model")), random_sae()
    expected = [to_tokens(model, text)[0].tolist() for text in TEXTS[:2]]
    seen: list[list[int]] = []
    forward = model.original_model.forward

    def watched(input_ids, *args, **kwargs):
        seen.extend(input_ids.tolist())
        return forward(input_ids, *args, **kwargs)

    monkeypatch.setitem(vars(model.original_model), "forward", watched)
    bench = Workbench(model=model, sae=sae)
    jobs = {
        "rank": lambda: bench.rank(TEXTS[0], logit_diff(5, 6), ablate=2, progress=False),
        "find": lambda: [bench.find([text]) for text in TEXTS[:2]],
        "steer": lambda: bench.steer(TEXTS[0], {3: 2.0}, max_new_tokens=2, max_act={3: 1.0}, progress=False),
        "train": lambda: ActivationStream(model, TEXTS[:2], sae.cfg.hook_name, batch=4),
        "evaluate": lambda: evaluate(model, sae, TEXTS[:2], progress=False),
        "index": lambda: build_index(model, sae, TEXTS[:2], tmp_path / "index", progress=False),
    }
    for name, job in jobs.items():
        seen.clear()
        job()
        found = [(row, ids) for row in seen for ids in expected if str(ids[-6:])[1:-1] in str(row)]  # beside what probes read
        assert found, f"{name} never read a text"
        for row, ids in found:
            assert row[: len(ids)] == ids, f"{name} read {row}"
    rows = list(Rows(model, TEXTS[:2]))
    assert rows == expected


@pytest.mark.parametrize(("family", "kind"), [("neox", "named"), ("qwen3", "named"), ("gpt2", "end only"), ("gpt2", "two of its own")])
def test_a_pages_maximum_is_the_rankings(family, kind, tmp_path):
    model, sae = load_model(folder_with(family, kind, tmp_path / "model")), random_sae()
    index = build_index(model, sae, TEXTS, tmp_path / "index", progress=False)
    bench = Workbench(model=model, sae=sae, index=index)
    tables = [bench.rank(text, logit_diff(5, 6), ablate=1, progress=False).table for text in TEXTS]
    largest, searched = np.zeros(sae.cfg.d_sae), encode(model, sae, TEXTS).peaks.of(np.arange(sae.cfg.d_sae), len(TEXTS)).max(0)
    for table in tables:
        np.maximum.at(largest, table["feature"].to_numpy(), table["activation"].to_numpy())
    np.testing.assert_allclose(index.table["max_act"], largest, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(searched, largest, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["neither", "end only", "beyond", "its own beyond"])
def test_no_start_token_is_made_up_and_nothing_outside_of_the_embedding_reaches_the_model(kind, tmp_path):
    model = load_model(folder_with("gpt2", kind, tmp_path))
    assert not start_token(model).ids and not is_start_token(model, torch.zeros(1, 3, dtype=torch.long)).any()
    assert all(token < N_VOCAB for token in end_tokens(model))
    if kind == "end only":
        assert to_tokens(model, "</s>the cat")[0, 0] == 0 and end_tokens(model) == [0]  # one of the text's own
        assert [row.n_text for row in Rows(model, ["</s>the"])] == [4]
    if "beyond" in kind:
        assert "'<s>'" in start_token(model).why and "number 300, but the embedding has 300 rows" in start_token(model).why
        with pytest.raises(ValueError, match="has the token '</s>', number 301, but the model's embedding has 300 rows"):
            to_tokens(model, "the cat</s>")
        with pytest.raises(ValueError, match="has the token '<s>', number 300, but the model's embedding has 300 rows"):
            list(Rows(model, ["<s>the cat"]))
        with pytest.raises(ValueError, match="start_token='<s>' is token 300, but the model's embedding has 300 rows"):
            load_model(model, start_token="<s>")


def test_whoever_loads_overrules_the_files(tmp_path):
    folder = folder_with("neox", "named", tmp_path)
    given, none = load_model(folder, start_token="<s>"), load_model(folder_with("gpt2", "its own", tmp_path / "other"), start_token=None)
    assert to_tokens(given, "a")[0].tolist() == [0, *given.tokenizer("a", add_special_tokens=False)["input_ids"]]
    assert 0 not in to_tokens(none, "a") and torch.equal(none.to_tokens("a"), to_tokens(none, "a"))
    assert torch.equal(given.to_tokens("a"), to_tokens(given, "a"))
    assert load_model(given) is given and start_token(given).ids == (0,)  # it stays decided
    with pytest.raises(ValueError, match="'<start>' is no token of this model.*special tokens: '<s>'"):
        load_model(folder, start_token="<start>")


def test_a_text_that_begins_with_the_start_token_gets_no_second_one(model_of):
    model = model_of("llama")
    assert to_tokens(model, "<|start|>the cat").tolist() == to_tokens(model, "the cat").tolist()
    tokens = to_tokens(model, "the<|start|> cat")
    assert (tokens == 0).sum() == 2 and is_start_token(model, tokens).sum() == 1


def test_an_sae_and_an_index_say_which_start_token_they_were_made_with(tmp_path):
    folder = folder_with("neox", "named", tmp_path / "model")
    plain, led = load_model(folder), load_model(folder, start_token="<s>")
    stream = ActivationStream(led, TEXTS, "blocks.1.hook_resid_pre", batch=8)
    sae = train(stream, TrainConfig(8, n_steps=3), progress=False)
    assert sae.cfg.metadata["start_token"] == "<s>" and sae.cfg.metadata["prepend_bos"] is True
    assert "note" not in Workbench(model=led, sae=sae).facts()
    other = Workbench(model=plain, sae=sae)
    assert "start_token='<s>' when loading reads them as it did" in other.facts()["note"]
    assert "none: the tokenizer names '<s>'" in other.facts()["start"]
    index = build_index(led, random_sae(), TEXTS, tmp_path / "index", progress=False)
    assert "'<s>' led every text" in repr(index)
    with pytest.raises(ValueError, match="this index was made with the start token '<s>', texts are read without one here"):
        Workbench(model=plain, sae=random_sae(), index=index)
    assert Workbench(model=led, sae=random_sae(), index=index).rank("the cat", logit_diff(5), ablate=1, progress=False).notes == ()


def test_load_takes_the_start_token_and_a_ranking_shows_it(tmp_path):
    folder = folder_with("neox", "named", tmp_path)
    metric = logit_diff(5, 6)
    texts = {given: repr(load(str(folder), random_sae(), start_token=given).rank("the cat", metric, ablate=1)) for given in ("<s>", None)}
    assert "start token <s> left out" in texts["<s>"] and "no start token" in texts[None]
