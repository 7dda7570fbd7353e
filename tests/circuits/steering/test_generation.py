"""Text generated while features are clamped: exact with the KV cache, row by row, sampled from the softmax, read by the unsteered model."""

import threading

import pytest
import torch
from made_models import D_MODEL, D_SAE, FAMILIES

from workbench.circuits.intervene import editing
from workbench.circuits.steering.generation import Decoding, Noise, generate, read
from workbench.circuits.steering.steering import clamping_rows
from workbench.sae.config import SAEConfig
from workbench.sae.sae import SAE

SHORT = Decoding(max_new_tokens=6)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_kv_cache_changes_no_token_of_greedy_steering(model_of, tokens, sae, family):
    model = model_of(family)
    edit = clamping_rows([3, 8], torch.tensor([[torch.nan, torch.nan], [9.0, 0.0], [-20.0, 4.0]]))
    written = []
    for use_cache in (True, False):
        with editing(model, sae, edit):
            written.append(generate(model, tokens.expand(3, -1), SHORT, use_cache=use_cache))
    assert torch.equal(written[0].tokens, written[1].tokens)
    torch.testing.assert_close(written[0].next_logits, written[1].next_logits, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(written[0].next_logits[0], written[0].next_logits[1], atol=1e-3), "the clamp did nothing"


def test_rows_are_what_each_clamp_gives_alone(model, tokens, sae):
    edit = clamping_rows([3, 8], torch.tensor([[torch.nan, 1.0], [9.0, 0.0]]))
    with editing(model, sae, edit):
        both = generate(model, tokens.expand(2, -1), SHORT)
    for row, clamp in enumerate([{8: 1.0}, {3: 9.0, 8: 0.0}]):
        with editing(model, sae, clamp):
            alone = generate(model, tokens, SHORT)
        assert torch.equal(both.tokens[row], alone.tokens[0])
        torch.testing.assert_close(both.next_logits[row], alone.next_logits[0], rtol=1e-4, atol=1e-4)


def test_sampling_draws_from_the_softmax():
    logits = torch.tensor([[1.0, 0.0, -1.0, 2.0]])
    noise = Noise([0], temperature=2.0)
    drawn = torch.cat([noise.choose(logits) for _ in range(4000)])
    expected = (logits[0] / 2.0).softmax(-1)
    assert (drawn.bincount(minlength=4) / 4000 - expected).abs().max() < 0.03


def test_reading_in_parts_is_reading(model, tokens, sae, monkeypatch):
    rows = tokens.repeat(5, 1)
    rows[:, -1] = torch.arange(5)
    whole = read(model, sae, rows, 8, [3])
    monkeypatch.setattr("workbench.circuits.steering.generation.READ_FLOATS", 1)
    parts = read(model, sae, rows, 8, [3])
    torch.testing.assert_close(parts.log_probs, whole.log_probs, rtol=1e-4, atol=1e-5)
    assert parts.log_probs.shape == (5, 4) and parts.feature_acts.shape == (5, 4, 1)


def test_a_text_ends_at_its_end_token_and_others_go_on(model, tokens, monkeypatch):
    plain = generate(model, tokens, SHORT)
    ends_third = int(plain.tokens[0, 2])
    monkeypatch.setattr("workbench.circuits.steering.generation.end_tokens", lambda model: [ends_third])
    rows = tokens.repeat(2, 1)
    rows[1, -1] = 7
    ended = generate(model, rows, SHORT)
    first = plain.tokens[0].tolist().index(ends_third)
    assert ended.is_text[0].tolist() == [i < first for i in range(ended.tokens.shape[1])]
    assert set(ended.tokens[0, first:].tolist()) == {ends_third}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (dict(max_new_tokens=0), "generates nothing"),
        (dict(temperature=-1.0), "expected 0"),
        (dict(n_samples=0), "n_samples=0"),
        (dict(n_samples=3), "give a temperature"),
    ],
)
def test_decodings_that_cannot_be_are_refused(options, says):
    with pytest.raises(ValueError, match=says):
        Decoding(**options)


def test_cancel_ends_generation_with_what_there_is(model, tokens):
    cancel = threading.Event()
    cancel.set()
    assert generate(model, tokens, Decoding(6, cancel=cancel)).tokens.shape == (1, 1)


def test_progress_is_shown_only_when_asked(model, tokens, capsys, monkeypatch):
    monkeypatch.setattr("workbench.circuits.steering.generation.BAR_DELAY", 0.0)
    generate(model, tokens, Decoding(3, progress=False))
    assert capsys.readouterr().err == ""
    generate(model, tokens, Decoding(3))
    assert "writing" in capsys.readouterr().err


def test_a_text_is_read_whole_where_its_tokens_are_compared(model, tokens):
    sae = SAE(SAEConfig(D_MODEL, D_SAE, "blocks.1.hook_resid_pre", architecture="batchtopk", k=4))
    for weight in sae.parameters():
        weight.data = torch.randn(weight.shape, generator=torch.Generator().manual_seed(3))
    rows = tokens.expand(2, -1).clone()
    rows[1, -1] = 7
    x = model.run_with_cache(rows)[1][sae.cfg.hook_name]
    whole = torch.stack([sae.encode(text) for text in x])[:, -2:]
    assert not torch.equal(whole, torch.stack([sae.encode(text[-2:]) for text in x]))
    torch.testing.assert_close(read(model, sae, rows, rows.shape[1] - 2, range(D_SAE)).feature_acts, whole)
