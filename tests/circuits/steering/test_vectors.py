"""Steering vectors: what they are, where they are added, and how far."""

import pytest
import torch
from made_bench import PROMPT, made_bench
from made_models import D_MODEL, D_SAE

from workbench.circuits.steering import vectors
from workbench.circuits.steering.generation import Decoding
from workbench.circuits.steering.steering import steer
from workbench.circuits.steering.vectors import SteeringVector, largest_scale, steering_vector

SHORT = Decoding(max_new_tokens=6)
KNOWN = dict.fromkeys(range(D_SAE), 2.0)  # max_act of every feature


def test_the_vector_is_the_difference_of_means_at_the_last_tokens(model):
    bench = made_bench(model)
    positive, negative = ["the cat sat", "the dog ran on the mat"], ["the mat"]

    def last(prompt):
        return model.run_with_cache(prompt)[1][bench.sae.cfg.hook_name][0, -1]

    found = steering_vector(bench, positive, negative)
    torch.testing.assert_close(found.direction, (last(positive[0]) + last(positive[1])) / 2 - last(negative[0]))
    with pytest.raises(ValueError, match="negative is .*: expected a list"):
        steering_vector(bench, positive, [])
    with pytest.raises(ValueError, match="positive is 'the cat'"):
        steering_vector(bench, "the cat", negative)
    with pytest.raises(ValueError, match="their difference is zero, and steers nowhere"):
        steering_vector(bench, negative, negative)


def test_a_vector_is_added_at_every_position(model, tokens):
    vector = SteeringVector(torch.randn(D_MODEL), "blocks.1.hook_resid_pre")
    clean = model.run_with_cache(tokens)[1][vector.hook_name]
    with vector.adding(model, 3.0):
        found = model.run_with_cache(tokens)[1][vector.hook_name]
    torch.testing.assert_close(found, clean + 3.0 * vector.direction)


def test_the_search_finds_the_border_of_what_is_sane():
    assert largest_scale(lambda scale: scale <= 5.0) == pytest.approx(5.0, rel=0.04)
    assert largest_scale(lambda scale: False) == vectors.LOWEST
    assert largest_scale(lambda scale: True) == pytest.approx(vectors.HIGHEST, rel=0.04)


def test_a_vector_s_scale_is_searched_until_its_text_is_less_likely_than_the_others(model):
    torch.manual_seed(0)
    bench, vector = made_bench(model), SteeringVector(0.05 * torch.randn(D_MODEL), "blocks.1.hook_resid_pre")
    found = steer(bench, PROMPT, {3: 0.01}, SHORT, vector=vector, max_act=KNOWN)
    perplexity = found.table.set_index("kind")["perplexity"]
    limit = max(perplexity["features"], perplexity["unsteered"])
    assert perplexity["vector"] <= limit
    next_scale = found.continuations[-1].setting.strength * 2 ** (10 / 2**vectors.N_HALVINGS)
    assert next_scale < vectors.HIGHEST
    further = steer(bench, PROMPT, {}, SHORT, vector=SteeringVector(vector.direction, vector.hook_name, next_scale))
    assert further.continuations[-1].perplexity > limit
    assert [each.setting.kind for each in further.continuations] == ["unsteered", "vector"]
