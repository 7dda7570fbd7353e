"""Probes beside features: what is read, what is said, and what is refused."""

import base64
import itertools
import re

import numpy as np
import pytest
import torch
from made_models import random_sae

import workbench as wb
from workbench.bench import Workbench
from workbench.features.probes import classify
from workbench.features.probes.reads import POOLS, read
from workbench.model.tokens import to_tokens

ANIMALS = [" ".join(words) for words in itertools.product(("the", "a"), ("cat", "dog"), ("sat", "ran"), ("on", "to"), ("the", "a"))]
POSITIVE = [f"{text} mat" for text in ANIMALS if "cat" in text]
NEGATIVE = [f"{text} mat" for text in ANIMALS if "dog" in text]


@pytest.fixture(scope="module")
def bench(model_of) -> Workbench:
    return Workbench(model=model_of("gpt2"), sae=random_sae(), labels={n: f"<b>label</b> {n}" for n in range(64)})


def test_what_is_read_is_pooled_over_the_tokens_of_a_text(bench: Workbench):
    texts = ["the cat sat", "a dog ran to the mat", "the mat"]
    found = read(bench.model, bench.sae, texts, progress=False)
    for i, text in enumerate(texts):
        with torch.no_grad():
            cache = bench.model.run_with_cache(to_tokens(bench.model, text))[1]
        x, neurons = (cache[name][0, 1:] for name in (bench.sae.reads, found.neurons_at))
        for kind, values in (("activation", x), ("features", bench.sae.encode(x)), ("neurons", neurons)):
            for pool, expected in zip(POOLS, (values.mean(0), values.amax(0), values[-1]), strict=True):
                ours = getattr(found, kind)[pool]
                row = ours[[i]].toarray()[0] if kind == "features" else ours[i]
                np.testing.assert_allclose(row, expected.detach().numpy(), atol=1e-4)
    assert found.neurons_at == "blocks.0.mlp.hook_post" and {" cat", "the"} & found.tokens[0]


@pytest.fixture(scope="module")
def probes(bench: Workbench):
    shifted = [f"to the {text}" for text in POSITIVE[:12]], [f"to the {text}" for text in NEGATIVE[:12]]
    return wb.probe(bench, POSITIVE, NEGATIVE, shifted, k=3, progress=False)


def test_what_a_word_tells_is_found_and_the_word_named(probes):
    table = probes.table.set_index("reads")
    assert list(table.index) == ["activation", "all features", "3 features", "one feature", "neurons"]
    assert table.loc["activation", "auroc"] > 0.9 and table["n_inputs"].tolist()[2:4] == [3, 1]
    assert (table["low"] <= table["auroc"]).all() and (table["auroc"] <= table["high"]).all()
    assert any("cat" in note and "stands in every positive text or every negative text" in note for note in probes.notes), probes.notes
    sure = table.index[table["low"] == table["high"]].tolist()
    assert sure and any(f"an interval without width ({', '.join(sure)}) is no certainty: where none of" in note for note in probes.notes), (
        probes.notes
    )
    assert "activation" in probes.verdict and "On shifted texts:" in probes.verdict
    assert len(probes.features) == 3 and probes.features["share_of_parts"].between(0, 1).all()
    assert probes.differences["reads"].tolist() == list(table.index)[1:]
    np.testing.assert_allclose(
        probes.differences["activation_is_better"], table.loc["activation", "auroc"] - table["auroc"].iloc[1:], atol=1e-12
    )


def test_it_shows_itself_and_labels_are_data(probes):
    html = probes._repr_html_()
    assert probes.verdict.split(".")[0] in html and "<b>label" not in html and "data:image/svg+xml" in html
    assert "AUROC" in repr(probes) or "auroc" in repr(probes)
    assert len(probes.plot().data) == 2
    drawn = base64.b64decode(html.split("svg+xml;base64,")[1].split('"')[0]).decode()
    numbers = [float(text) for text in re.findall(r'text-anchor="middle"[^>]*>([\d.]+)<', drawn)]
    assert numbers[-1] == 1 and numbers == [round(numbers[0] + i / 10, 1) for i in range(len(numbers))], "round numbers below the picture"


def test_bad_sets_are_refused_in_words(bench: Workbench):
    for arguments, words in (
        ((POSITIVE[:9], NEGATIVE), "9 positive texts: a probe is judged on texts that it did not see, give 10 or more"),
        ((POSITIVE, []), "0 negative texts"),
        ((POSITIVE, [*NEGATIVE, POSITIVE[0]]), "stands among the positive and the negative texts"),
        (([*POSITIVE, POSITIVE[3]], NEGATIVE), "stands 2 times among the positive texts"),
        ((POSITIVE, [*NEGATIVE, bench.model.tokenizer.bos_token]), "is nothing but the start token"),
        (("the cat", NEGATIVE), "the positive texts are one string"),
        ((POSITIVE, NEGATIVE, (POSITIVE, NEGATIVE)), "stands among the positive and the shifted positive texts"),
        ((POSITIVE, [*NEGATIVE, ""]), "text"),
    ):
        with pytest.raises(ValueError, match=words):
            wb.probe(bench, *arguments, progress=False)
    with pytest.raises(ValueError, match="k=1: expected how many features one classifier reads"):
        wb.probe(bench, POSITIVE, NEGATIVE, k=1)


def test_a_solver_that_has_not_arrived_is_one_note_and_no_warning(bench: Workbench, monkeypatch, recwarn):
    texts = POSITIVE[:10], NEGATIVE[:10]
    assert not any("solver" in note for note in wb.probe(bench, *texts, k=3, progress=False).notes)
    monkeypatch.setattr(classify, "MOST_STEPS", 1)
    notes = [note for note in wb.probe(bench, *texts, k=3, progress=False).notes if "solver" in note]
    assert len({note.split(":")[0] for note in notes}) == len(notes) and notes[0].startswith("activation: in 6 of 6 fits")
    assert not any("one feature" in note for note in notes)  # nothing is fitted there
    assert not [each for each in recwarn if "onverge" in str(each.message)]


def test_inputs_far_from_zero_are_solved_like_those_around_it():
    rng, y = np.random.default_rng(0), np.arange(120) % 2 == 0
    x = rng.normal(size=(120, 40)) + y[:, None]
    near, far = (classify.Choice().fit(each, y, 1.0) for each in (x, x + 1e5))
    assert near.is_converged and far.is_converged
    np.testing.assert_allclose(near.weights, far.weights, rtol=1e-3, atol=1e-5)
