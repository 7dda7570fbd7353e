"""A swap is what it says: some features to 0, others to what they are elsewhere; wrong calls are said."""

import pytest
import torch
from made_circuit import PLACES, PROMPT, made_circuit_bench
from transformers import AutoModelForCausalLM

from workbench.bench import Workbench
from workbench.model.hooks import hooked
from workbench.model.model import load_model
from workbench.model.tokens import to_tokens

OTHER = "the dog ran to the cat"


@pytest.fixture(scope="module")
def small(model_of) -> Workbench:
    bench = made_circuit_bench(model_of("gpt2"))
    labels = {name: {feature: f"kind:{feature % 2} 0.60" for feature in range(0, 64, 3)} for name in PLACES}
    return Workbench(model=bench.model, sae=bench.sae, layers=bench.layers, layer_labels=labels)


def acts_at_the_end(bench: Workbench, name: str, prompt: str) -> torch.Tensor:
    found: list[torch.Tensor] = []
    with torch.no_grad(), hooked(bench.model, name, lambda x: found.append(x[0, -1].clone())):
        bench.model(to_tokens(bench.model, prompt))
    return bench.layers[name].encode(found[0])


def test_a_swap_equals_setting_each_feature_by_hand(small):
    swap = small.swap(PROMPT, off="kind:0", on="kind:1", source=OTHER)
    assert swap.table["hook_name"].tolist() == list(PLACES)
    for row in swap.table.itertuples():
        sae, here, there = small.layers[row.hook_name], *(acts_at_the_end(small, row.hook_name, text) for text in (PROMPT, OTHER))
        wanted = here.clone()
        for feature in range(0, 64, 3):
            if feature % 2 == 0:
                wanted[feature] = 0
            elif there[feature] > 0:
                wanted[feature] = there[feature]

        def put(x, sae=sae, wanted=wanted, here=here):
            x = x.clone()
            x[0, -1] += (wanted - here) @ sae.W_dec
            return x

        with torch.no_grad(), hooked(small.model, row.hook_name, put):
            probabilities = small.model(to_tokens(small.model, PROMPT))[0, -1].softmax(-1)
        token = int(small.model(to_tokens(small.model, OTHER))[0, -1].argmax())
        assert row.probability == pytest.approx(float(probabilities[token]), abs=1e-5)
        assert 0 <= row.control <= 1
    assert swap.best["probability"] == swap.table["probability"].max() and swap.answer == swap.best["answer"]
    assert repr(swap) and "At each place alone" in swap._repr_html_()


def test_switching_nothing_that_is_active_changes_nothing(small):
    silent = int((acts_at_the_end(small, PLACES[0], PROMPT) == 0).nonzero()[0, 0])
    active = int(acts_at_the_end(small, PLACES[0], PROMPT).argmax())
    swap = small.swap(PROMPT, off={PLACES[0]: [silent]}, on={PLACES[0]: [active]}, source=PROMPT)
    assert swap.table["probability"].tolist() == pytest.approx(swap.table["before"].tolist(), abs=1e-6)


@pytest.mark.parametrize(
    ("off", "on", "more", "says"),
    [
        ("kind:3", "kind:1", {}, "did you mean 'kind:"),
        ("kind:0", {"blocks.9.hook_resid_pre": [1]}, {}, "there is no SAE at"),
        ("kind:0", {PLACES[0]: [64]}, {}, "out of range"),
        ({PLACES[0]: []}, "kind:1", {}, "off is empty"),
        ("kind:0", "kind:1", {}, "Give source="),
        ("kind:0", "kind:1", dict(source=OTHER, pos=99), "position 99 is not on this prompt"),
    ],
)
def test_what_cannot_be_swapped_is_said(small, off, on, more, says):
    with pytest.raises(ValueError, match=says):
        small.swap(PROMPT, off, on, **more)


def test_a_feature_that_never_occurs_is_said(small):
    silent = int((acts_at_the_end(small, PLACES[0], OTHER) == 0).nonzero()[0, 0])
    with pytest.raises(ValueError, match="active nowhere"):
        small.swap(PROMPT, "kind:0", {PLACES[0]: [silent]}, source=OTHER)


def test_probabilities_of_a_model_of_16_bits_are_those_of_its_weights_in_float32(folder_of):
    narrow = made_circuit_bench(load_model(folder_of("gpt2"), dtype=torch.bfloat16))
    wide = made_circuit_bench(load_model(AutoModelForCausalLM.from_pretrained(folder_of("gpt2"), dtype=torch.bfloat16).float()))
    found, expected = (
        Workbench(model=bench.model, sae=bench.sae, layers=bench.layers)
        .swap(PROMPT, off={PLACES[0]: [1, 2, 3]}, on={PLACES[0]: list(range(8, 24))}, source=OTHER)
        .table
        for bench in (narrow, wide)
    )
    assert found["answer"].tolist() == expected["answer"].tolist()
    for column in ("probability", "before", "original", "control"):
        assert found[column].tolist() == pytest.approx(expected[column].tolist(), rel=1e-4)
