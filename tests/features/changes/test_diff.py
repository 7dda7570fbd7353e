"""What tuning changed, where it is known: a model that is shifted along one feature's decoder row, by hand."""

import copy
import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from made_models import CONFIGS, random_hf_model, random_sae
from made_transcoders import made_set
from transformers import GPT2Config, GPT2LMHeadModel

import workbench as wb
from workbench.bench import Workbench
from workbench.model.model import load_model
from workbench.model.tokens import to_tokens

TEXTS = [" ".join(words) for words in itertools.product(("the", "a"), ("cat", "dog"), ("sat", "ran"), ("on", "to"), ("the mat", "a cat"))]
SHIFTED, SIZE = 7, 0.8


@pytest.fixture(scope="module")
def bench(model_of) -> Workbench:
    return Workbench(model=model_of("gpt2"), sae=random_sae(), labels={n: f"<b>label</b> {n}" for n in range(64)})


def changed(tokenizer, path: str, by: torch.Tensor | float):
    """The tiny model with something added to a weight."""
    hf_model = random_hf_model("gpt2")
    hf_model.get_parameter(path).data += by
    return load_model(hf_model, tokenizer=tokenizer)


@pytest.fixture(scope="module")
def tuned(bench: Workbench, tokenizer):
    return changed(tokenizer, "transformer.h.0.mlp.c_proj.bias", SIZE * bench.sae.W_dec[SHIFTED])


@pytest.fixture(scope="module")
def changes(bench: Workbench, tuned):
    return wb.diff(bench, tuned, TEXTS, progress=False)


def test_each_number_is_the_mean_over_texts_of_what_both_models_do(bench: Workbench, tuned, changes):
    means, densities = [], []
    for text in TEXTS:
        with torch.no_grad():
            x = bench.model.run_with_cache(to_tokens(bench.model, text))[1][bench.sae.reads][0, 1:]
            acts = [bench.sae.encode(each) for each in (x, x + SIZE * bench.sae.W_dec[SHIFTED])]
        means.append([each.mean(0).numpy() for each in acts])
        densities.append([(each > 0).float().mean(0).numpy() for each in acts])
    rows = changes.table.set_index("feature")
    for feature, row in rows.iterrows():
        base, there = (np.mean([text[side][feature] for text in means]) for side in (0, 1))
        assert np.allclose([row["base"], row["tuned"], row["change"]], [base, there, there - base], atol=1e-4)
        base, there = (np.mean([text[side][feature] for text in densities]) for side in (0, 1))
        assert np.allclose([row["density_base"], row["density_tuned"]], [base, there], atol=1e-6)
    assert rows.loc[SHIFTED, "change"] > 0 and rows.loc[SHIFTED, "has_changed"]
    silent = [f for f in range(64) if all(text[side][f] == 0 for text in means for side in (0, 1))]
    assert not set(silent) & set(rows.index) and len(silent) + len(rows) == 64


def test_the_difference_of_means_is_the_shift_and_lies_along_its_decoder_row(changes):
    first = changes.dense.iloc[0]
    direction = changes.dense.set_index("feature")["cosine"]
    assert first["feature"] == SHIFTED and direction[SHIFTED] == pytest.approx(1.0, abs=1e-5)
    assert changes.mean_share == pytest.approx(1.0, abs=1e-5)  # every text is shifted alike
    assert changes.texts["distance"].std() < 1e-3 * changes.texts["distance"].mean()


def test_a_shift_that_16_bits_would_round_away_is_seen_by_an_sae_of_16_bits(bench: Workbench, tokenizer):
    sae = random_sae(dtype=torch.bfloat16)
    slightly = changed(tokenizer, "transformer.h.0.mlp.c_proj.bias", 1e-3 * sae.W_dec[SHIFTED].float())
    found = wb.diff(Workbench(model=bench.model, sae=sae), slightly, TEXTS, progress=False)
    first = found.dense.iloc[0]
    assert first["feature"] == SHIFTED and first["cosine"] == pytest.approx(1.0, abs=1e-3)


def test_what_is_to_know_of_the_dictionary_on_this_model_is_noted(bench: Workbench, tuned):
    sae = random_sae()
    sae.cfg.metadata["prepend_bos"] = False
    notes = wb.diff(Workbench(model=bench.model, sae=sae), tuned, TEXTS, progress=False).notes
    assert notes[0].startswith("this SAE was made with no start token") and "texts are few" in notes[1]


def test_what_moved_most_stands_first(changes):
    table = changes.table
    assert (table["has_changed"] == (table["q"] <= 0.05)).all() and table["moved"].is_monotonic_decreasing
    assert len(changes.top(500)) == (table["moved"] >= 0.01).sum() > 3 and changes.top(3).equals(table.head(3))
    assert ((table["moved_low"] <= table["moved"]) & (table["moved"] <= table["moved_high"])).all()
    assert ((table["low"] <= table["change"]) & (table["change"] <= table["high"])).all()


def test_where_nothing_moved_by_much_it_says_so(bench: Workbench, tokenizer):
    barely = changed(tokenizer, "transformer.h.0.mlp.c_proj.bias", 1e-4 * bench.sae.W_dec[SHIFTED])
    found = wb.diff(bench, barely, TEXTS, progress=False)
    assert found.verdict.startswith("No feature moved by 1% of what varies over texts; the means of ") and not len(found.top())
    assert "No feature moved" in found._repr_html_() and "No feature moved" in repr(found)


def test_both_ways_say_the_opposite(bench: Workbench, tuned, changes):
    back = wb.diff(Workbench(model=tuned, sae=bench.sae), bench, TEXTS, progress=False)
    ours, theirs = (each.table.set_index("feature").sort_index() for each in (changes, back))
    np.testing.assert_allclose(ours["change"], -theirs["change"], atol=1e-6)
    np.testing.assert_allclose(ours["moved"], theirs["moved"], atol=1e-5)


def test_it_shows_itself_says_what_is_assumed_and_labels_are_data(changes):
    html = changes._repr_html_()
    assert "<b>label" not in html and "&lt;b&gt;label" in html and "What did tuning change?" in html
    assert "through one SAE" in changes.assumes and changes.assumes.split(",")[0] in html and changes.verdict.split(";")[0] in repr(changes)
    assert "40 texts are few" not in html and any("32 texts are few" in note for note in changes.notes)


def test_what_cannot_be_compared_is_refused_in_words(bench: Workbench, tuned, tokenizer, model_of):
    behind = changed(tokenizer, "transformer.h.3.mlp.c_proj.bias", 1.0)
    same = load_model(random_hf_model("gpt2"), tokenizer=tokenizer)
    without_start = load_model(random_hf_model("gpt2"), tokenizer=tokenizer, start_token=None)
    shallow = load_model(GPT2LMHeadModel(GPT2Config(**{**CONFIGS["gpt2"].to_dict(), "n_layer": 2})).eval(), tokenizer=tokenizer)
    reworded = copy.deepcopy(tokenizer)
    reworded.add_tokens(["zebra"])
    other_words = load_model(random_hf_model("gpt2"), tokenizer=reworded)
    for arguments, words in (
        ((bench, tuned, []), "0 texts: a text is what is counted, give 10 or more"),
        ((bench, tuned, TEXTS[:9]), "9 texts"),
        ((bench, tuned, TEXTS[0]), "the texts are one string"),
        ((bench, tuned, [*TEXTS, ""]), "prompt 33"),
        ((bench, tuned, [*TEXTS, tokenizer.bos_token]), "prompt 33: '<|start|>' is nothing but the start token"),
        ((bench, bench, TEXTS), "nothing differs: both models have the same weights"),
        ((bench, same, TEXTS), "nothing differs: both models have the same weights"),
        ((bench, behind, TEXTS), "nothing differs at blocks.1.hook_resid_pre on these texts"),
        ((bench, model_of("neox"), TEXTS), "the models are of other kinds, GPT2LMHeadModel and GPTNeoXForCausalLM"),
        ((bench, shallow, TEXTS), "the models have other shapes, n_layers 4 and 2"),
        ((bench, other_words, TEXTS), "the models have other tokenizers"),
        ((bench, without_start, TEXTS), "the models are read with other start tokens"),
        ((bench, "gpt2", TEXTS), "tuned='gpt2' is no workbench"),
        ((bench.model, tuned, TEXTS), "is no workbench: make one by load"),
    ):
        with pytest.raises(ValueError) as refused:
            wb.diff(*arguments, progress=False)
        assert words in str(refused.value), refused.value


@torch.no_grad()
def at(model, *hook_names: str) -> list[torch.Tensor]:
    """What stands there at every token of the texts but start tokens, one after the other."""
    caches = [model.run_with_cache(to_tokens(model, text))[1] for text in TEXTS]
    return [torch.cat([cache[name][0, 1:] for cache in caches]).double() for name in hook_names]


def test_the_variance_that_an_sae_explains_which_centers_is_of_what_it_reads(bench: Workbench, tuned):
    sae = random_sae()
    sae.cfg = replace(sae.cfg, centers_input=True)
    changes = wb.diff(Workbench(model=bench.model, sae=sae), tuned, TEXTS, progress=False)
    for model, fvu in zip((bench.model, tuned), changes.fvu, strict=True):
        (x,) = at(model, sae.reads)
        centered = x - x.mean(1, keepdim=True)
        error = centered - sae(x.float()).double()
        assert fvu == pytest.approx(float(error.square().sum() / (centered - centered.mean(0)).square().sum()), rel=1e-4)


def test_of_a_transcoder_what_is_explained_and_what_rows_lie_along_is_where_it_writes(bench: Workbench, tuned):
    transcoder = made_set("mlp.hook_in", "hook_mlp_out", True)[1]
    changes = wb.diff(Workbench(model=bench.model, sae=transcoder), tuned, TEXTS, progress=False)
    ys, lengths = [], [to_tokens(bench.model, text).shape[1] - 1 for text in TEXTS]
    for model, fvu in zip((bench.model, tuned), changes.fvu, strict=True):
        x, y = at(model, transcoder.reads, transcoder.writes)
        error = y - transcoder(x.float()).double()
        assert fvu == pytest.approx(float(error.square().sum() / (y - y.mean(0)).square().sum()), rel=1e-4)
        ys.append(torch.stack([part.mean(0) for part in y.split(lengths)]))
    cosines = torch.cosine_similarity(transcoder.W_dec.double(), (ys[1] - ys[0]).mean(0)[None])
    assert np.allclose(changes.dense["cosine"], cosines[changes.dense["feature"].tolist()], atol=1e-4)
    assert f"one transcoder, which explains, at {transcoder.writes}," in changes.assumes
