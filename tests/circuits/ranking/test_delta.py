"""The delta form: as good as it says, on five architectures; where it wins nothing or errs too much, the exact form, in a sentence."""

import gc
import json
from dataclasses import replace
from threading import Event

import pytest
import torch
from made_folders import PROMPT
from made_models import FAMILIES, random_sae
from torch import nn
from typer.testing import CliRunner

from workbench import atlas
from workbench.circuits.metrics import logit_diff
from workbench.circuits.ranking import ablation
from workbench.circuits.ranking.ablation import Ablations, DeltaError, ablate
from workbench.cli import app
from workbench.model.gemm import SETTING
from workbench.model.model import load_model
from workbench.replay import delta, precision
from workbench.replay.delta import Deltas
from workbench.replay.replay import Replay

METRIC = logit_diff(5, 7)


@pytest.fixture(autouse=True)
def as_if_bfloat16_were_faster(monkeypatch: pytest.MonkeyPatch):
    """Where it is not, products in it are the same, later."""
    monkeypatch.setenv(SETTING, "bfloat16")


def both(model, sae, tokens) -> tuple[torch.Tensor, torch.Tensor, str]:
    """Effects of all pairs: exact, in the delta form, and what is said of the latter."""
    made = Ablations(model, sae, tokens, METRIC, "delta")
    return ablate(model, sae, tokens, METRIC, progress=False), made.of(progress=False), made.note


def is_as_good_as_said(exact: torch.Tensor, found: torch.Tensor, note: str) -> bool:
    """Over all pairs, also those that were not measured both ways: the largest error at most three times the one said."""
    error = DeltaError.of(found, exact)
    said = float(note.split("logits, ")[1].split("%")[0]) / 100
    return 0 < error.of_largest < 3 * said + 1e-4


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("point", ["hook_resid_pre", "hook_mlp_out"])
def test_its_error_is_small_and_as_said(model_of, tokens, family, point):
    exact, found, note = both(model_of(family), random_sae(f"blocks.1.{point}"), tokens)
    error = DeltaError.of(found, exact)
    assert error.of_largest < 0.02 and error.median < 0.02
    assert note.startswith("Effects are in the delta form: on 24 pairs that were measured exactly, too, off by at most ")
    assert is_as_good_as_said(exact, found, note)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_product_with_a_weight_takes_it(model_of, tokens, family):
    made = Replay(model_of(family), "blocks.1.hook_resid_pre", tokens)
    with made.in_delta_form() as deltas:
        pos = torch.tensor([1, 2])
        made.logits(pos, made.clean[pos].flip(-1), METRIC.resolve(made.model).columns)
    assert deltas.share == 1


def test_a_model_of_half_precision_weights(folder_of, tokens):
    model, sae = load_model(folder_of("llama"), dtype=torch.bfloat16), random_sae()
    exact, found, note = both(model, sae, tokens)
    assert DeltaError.of(found, exact).of_largest < 0.02 and is_as_good_as_said(exact, found, note)


def test_weights_that_are_widened_anew_at_each_pass_are_not_held_on_to(folder_of, tokens, monkeypatch):
    monkeypatch.setattr(precision, "KEPT_BYTES", 0)
    made = Ablations(load_model(folder_of("llama"), dtype=torch.bfloat16), random_sae(), tokens, METRIC, "delta")
    exact = ablate(made.replay.model, made.sae, tokens, METRIC, progress=False)
    torch.testing.assert_close(made.of(progress=False), exact)
    assert "of this model's products only 0% could take the delta form" in made.note
    gc.collect()
    assert not any(noted and noted.is_there for noted in made.replay._tail.deltas._noted.values())


def test_where_16_bits_are_no_faster_it_is_exact_and_says_so(model, sae, tokens, monkeypatch):
    monkeypatch.setenv(SETTING, "float32")
    exact, found, note = both(model, sae, tokens)
    assert torch.equal(exact, found) and "nothing to win here: products in float32" in note


def test_where_blocks_cannot_be_run_apart_it_is_exact_and_says_so(model, tokens, monkeypatch):
    sae = random_sae("hook_embed")
    exact, found, note = both(model, sae, tokens)
    assert torch.equal(exact, found) and "the delta form needs blocks that run apart" in note


def test_an_error_that_is_too_large_is_not_believed(model, sae, tokens, monkeypatch):
    monkeypatch.setattr(ablation, "MOST_ERROR", 1e-9)
    exact, found, note = both(model, sae, tokens)
    assert torch.equal(exact, found) and note.endswith(" That is too much: all were measured anew, exact.")


def test_stopped_with_too_large_an_error_it_claims_nothing_that_was_not_done(model, sae, tokens, monkeypatch):
    monkeypatch.setattr(ablation, "MOST_ERROR", 1e-9)
    made, cancel = Ablations(model, sae, tokens, METRIC, "delta"), Event()
    made.of(progress=False, cancel=cancel, on_batch=lambda rows, effects: cancel.set())
    assert made.note.endswith(" That is too much.")


def test_many_prompts_say_what_all_rankings_note_and_how_many_have_notes_of_their_own():
    bench = atlas.load()
    found = bench.rank_many([PROMPT, PROMPT], logit_diff(" Sacramento"), ablate=20, precision="delta", progress=False)
    assert found.notes[-1] in found.rankings[1].notes and "delta form" in found.notes[-1] and found.notes[-1] in repr(found)
    apart = replace(found, rankings=[replace(each, notes=(f"note {i}",)) for i, each in enumerate(found.rankings)])
    assert "2 of 2 rankings have notes of their own" in apart.notes[-1] and "note 0" not in repr(apart)


def test_a_form_that_gives_no_numbers_is_not_believed(model, sae, tokens, monkeypatch):
    monkeypatch.setattr(delta.Noted, "_times", lambda self, change: torch.full((len(change), self.product.shape[1]), torch.nan))
    exact, found, note = both(model, sae, tokens)
    assert torch.equal(exact, found)


def test_stopped_it_says_the_error_of_what_was_measured(model, sae, tokens):
    made, cancel = Ablations(model, sae, tokens, METRIC, "delta"), Event()
    found = made.of(progress=False, cancel=cancel, on_batch=lambda rows, effects: cancel.set())
    assert 0 < found.isnan().sum() < len(found) and made.note.startswith("Effects are in the delta form: on 24 pairs")
    assert made.of(progress=False, cancel=cancel).isnan().all() and made.note == ""


def test_weights_beyond_the_memory_allowed_stay_as_they_are(model, sae, tokens, monkeypatch):
    monkeypatch.setattr(delta, "KEPT_BYTES", 0)
    exact, found, note = both(model, sae, tokens)
    assert torch.allclose(exact, found, rtol=0, atol=1e-6 * float(exact.abs().max()))
    assert "only 0% could take the delta form" in note


def test_what_is_kept_stays_within_a_quarter_of_the_free_memory_all_together(monkeypatch):
    one = 8 * 8 * 2 + 2 * 5 * 8 * 4  # bytes of a weight in 16 bits, of what it is given and gives
    monkeypatch.setattr(delta, "free_memory", lambda device: 4 * 2 * one)
    x, weights = torch.randn(1, 5, 8), torch.randn(3, 8, 8).unbind()
    deltas = Deltas(torch.device("cpu"))
    for mode in (deltas.noting(0), deltas.taking(0, n_rows=1, start=0, n=5)):
        with mode:
            for weight in weights:
                nn.functional.linear(x, weight)
    assert deltas.share == pytest.approx(2 / 3)


def test_a_weight_that_a_block_uses_twice_stays_as_it_is():
    weight, x, y = torch.randn(8, 8), torch.randn(1, 5, 8), torch.randn(3, 5, 8)
    deltas = Deltas(torch.device("cpu"))
    with deltas.noting(0):
        nn.functional.linear(nn.functional.linear(x, weight), weight)
    with deltas.taking(0, n_rows=3, start=0, n=5):
        assert torch.equal(nn.functional.linear(y, weight), y @ weight.T)
    assert deltas.share == 0


def test_products_of_other_positions_stay_as_they_are():
    weight, deltas = torch.randn(8, 8), Deltas(torch.device("cpu"))
    with deltas.noting(0):
        nn.functional.linear(torch.randn(1, 5, 8), weight)
    some = torch.randn(4, 8)  # as of an expert that gets four of fifteen tokens
    with deltas.taking(0, n_rows=3, start=0, n=5):
        assert torch.equal(nn.functional.linear(some, weight), some @ weight.T)


def test_parts_of_it_are_the_whole(monkeypatch):
    weight, x, y, found, deltas = torch.randn(8, 6), torch.randn(1, 5, 8), torch.randn(7, 3, 8), [], Deltas(torch.device("cpu"))
    with deltas.noting(0):
        torch.addmm(torch.ones(6), x.view(-1, 8), weight)
    for size in (1, 24, 10**6):
        monkeypatch.setattr(delta, "PART_FLOATS", size)
        with deltas.taking(0, n_rows=7, start=2, n=3):
            found.append(torch.addmm(torch.ones(6), y.view(-1, 8), weight))
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])
    torch.testing.assert_close(found[0], y.view(-1, 8) @ weight + 1, rtol=0, atol=0.1)


def test_nothing_of_it_stays(model, sae, tokens):
    before = ablate(model, sae, tokens, METRIC, progress=False)
    made = Ablations(model, sae, tokens, METRIC, "delta")
    made.of(progress=False)
    assert torch.equal(before, ablate(model, sae, tokens, METRIC, progress=False))
    made.precision = "exact"
    assert torch.equal(made.of(progress=False), before) and made.note == ""


def test_a_ranking_says_its_error_and_finds_the_same_ten():
    bench = atlas.load()
    metric = logit_diff(" Sacramento", " Albany")
    exact, found = bench.rank(PROMPT, metric, progress=False), bench.rank(PROMPT, metric, progress=False, precision="delta")
    assert found.notes[-1].startswith("Effects are in the delta form") and found.notes[:-1] == exact.notes
    assert set(found.top(10)["feature"]) == set(exact.top(10)["feature"])


def test_from_the_shell():
    asked = ["rank", PROMPT, "--answer", " Sacramento", "--ablate", "20", "--precision", "delta", "--json"]
    assert "in the delta form" in json.loads(CliRunner().invoke(app, asked).stdout)["notes"][-1]
