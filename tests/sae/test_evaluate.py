"""What an evaluation says, by hand and by brute force; start tokens never count."""

import math

import numpy as np
import pytest
import torch
from made_models import D_MODEL, D_SAE, random_sae
from torch.nn.functional import cross_entropy

from workbench.activations.stream import harvest
from workbench.model.tokens import to_tokens
from workbench.sae.config import SAEConfig, TranscoderConfig
from workbench.sae.evaluate import decoder_cosine, evaluate
from workbench.sae.evaluation import Evaluation, Losses
from workbench.sae.sae import SAE
from workbench.sae.transcoder import Transcoder

HOOK = "blocks.1.hook_resid_pre"
TEXTS = ["the cat sat", "the dog ran to the mat and the cat sat on the dog", "and the cat", "the mat"] * 5


def activations(model, hook_name: str = HOOK, texts=TEXTS) -> torch.Tensor:
    """Of every token of the texts, one text at a time."""
    return torch.cat([harvest(model, to_tokens(model, text), hook_name)[0, 1:] for text in texts]).double()


def losses_with(model, new, hook_name: str = HOOK) -> tuple[float, int]:
    """Next-token loss with new(x) put at every token but the start, one text at a time; over how many predictions."""
    total, n = 0.0, 0

    def put(x, hook):
        x = x.clone()
        x[:, 1:] = new(x[:, 1:].flatten(2)).reshape(x[:, 1:].shape)
        return x

    for text in TEXTS:
        tokens = to_tokens(model, text)
        logits = model.run_with_hooks(tokens, fwd_hooks=[(hook_name, put)])[0]
        total += cross_entropy(logits[1:-1].double(), tokens[0, 2:], reduction="sum").item()
        n += tokens.shape[1] - 2
    return total / n, n


def identity_sae(hook_name: str = HOOK) -> SAE:
    """x_hat = x exactly: a feature for every direction and its opposite."""
    sae = SAE(SAEConfig(D_MODEL, 2 * D_MODEL, hook_name))
    sae.W_enc.data = torch.cat([torch.eye(D_MODEL), -torch.eye(D_MODEL)], dim=1)
    sae.W_dec.data = sae.W_enc.data.T.contiguous()
    return sae.requires_grad_(False)


def test_l0_fvu_density_and_max_act_are_those_of_all_tokens_at_once(model, sae):
    x = activations(model)
    acts = sae.double().encode(x)
    found = evaluate(model, sae.float(), TEXTS)
    assert found.n_tokens == len(x)
    assert found.l0 == pytest.approx((acts > 0).sum(1).double().mean().item(), rel=1e-3)
    unexplained = (x - sae.double().decode(acts)).square().sum() / (x - x.mean(0)).square().sum()
    assert found.fvu == pytest.approx(unexplained.item(), rel=1e-4)
    np.testing.assert_allclose(found.table["density"], (acts > 0).double().mean(0), atol=2 / len(x))
    np.testing.assert_allclose(found.table["max_act"], acts.amax(0), rtol=1e-4, atol=1e-5)
    assert list(found.table["feature"]) == list(range(D_SAE))


@pytest.mark.parametrize("hook_name", [HOOK, "blocks.2.hook_mlp_out", "blocks.1.attn.hook_z"])
def test_losses_are_those_of_every_text_alone_with_its_activations_replaced(model, hook_name):
    sae = random_sae(hook_name)
    mean = activations(model, hook_name).mean(0).float()
    found = evaluate(model, sae, TEXTS).losses
    clean, n = losses_with(model, torch.clone, hook_name)
    assert found.n_tokens == n
    assert found.clean == pytest.approx(clean, rel=1e-5)
    assert found.spliced == pytest.approx(losses_with(model, sae, hook_name)[0], rel=1e-5)
    assert found.zero == pytest.approx(losses_with(model, torch.zeros_like, hook_name)[0], rel=1e-5)
    assert found.mean == pytest.approx(losses_with(model, lambda x: mean.expand_as(x), hook_name)[0], rel=1e-5)


def test_a_perfect_sae_explains_and_recovers_everything(model):
    found = evaluate(model, identity_sae(), TEXTS)
    assert found.fvu == pytest.approx(0, abs=1e-9) and found.explained_variance == pytest.approx(1)
    assert found.l0 == pytest.approx(D_MODEL)
    assert found.losses.recovered == pytest.approx(1, abs=1e-4) and found.losses.recovered_mean == pytest.approx(1, abs=1e-4)


def test_an_sae_of_nothing_is_no_better_than_zeros_and_all_dead(model):
    sae = SAE(SAEConfig(D_MODEL, 8, HOOK)).requires_grad_(False)
    found = evaluate(model, sae, TEXTS)
    x = activations(model)
    assert found.dead == 1 and found.l0 == 0
    assert found.fvu == pytest.approx((x.square().sum() / (x - x.mean(0)).square().sum()).item(), rel=1e-5)
    assert found.losses.recovered == pytest.approx(0, abs=1e-6)


def test_an_sae_that_only_knows_the_mean_explains_nothing_and_recovers_nothing_against_it(model):
    sae = SAE(SAEConfig(D_MODEL, 8, HOOK)).requires_grad_(False)
    sae.b_dec.data = activations(model).mean(0).float()
    found = evaluate(model, sae, TEXTS)
    assert found.explained_variance == pytest.approx(0, abs=1e-5)
    assert found.losses.recovered_mean == pytest.approx(0, abs=1e-5)


def test_a_feature_of_the_start_token_alone_is_dead(model):
    start = harvest(model, to_tokens(model, "the"), HOOK)[0, 0]
    others = activations(model).float()
    sae = SAE(SAEConfig(D_MODEL, 2, HOOK)).requires_grad_(False)
    direction = start - others.mean(0)
    sae.W_enc.data = torch.stack([direction, -direction], dim=1)
    between = ((others @ direction).max() + start @ direction) / 2
    assert start @ direction > (others @ direction).max()
    sae.b_enc.data = torch.stack([-between, between])
    assert (sae.encode(start) > 0).tolist() == [True, False]
    assert evaluate(model, sae, TEXTS).table["density"].tolist() == [0, 1]


def test_centered_saes_are_judged_on_the_centered_activations(model):
    centered = SAE(SAEConfig(D_MODEL, 2 * D_MODEL, HOOK, centers_input=True))
    centered.load_state_dict(identity_sae().state_dict())
    found = evaluate(model, centered.requires_grad_(False), TEXTS)
    assert found.fvu == pytest.approx(0, abs=1e-9)
    assert found.losses.recovered == pytest.approx(1, abs=1e-4)


def in_small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (
        ("evaluate.N_ROWS", 64),
        ("evaluate.N_TOKENS", 9),
        ("evaluate.N_LOGITS", 1),
        ("parts.N_ACTS", 1),
        ("parts.FEWEST_ROWS", 3),
    ):
        monkeypatch.setattr(f"workbench.sae.{name}", value)


def test_batches_change_nothing(model, sae, monkeypatch):
    whole = evaluate(model, sae, TEXTS)
    in_small_batches(monkeypatch)
    parts = evaluate(model, sae, TEXTS)
    assert parts.measures() == pytest.approx(whole.measures(), rel=1e-5)
    np.testing.assert_allclose(parts.table, whole.table, rtol=1e-4)


def test_the_loss_is_measured_on_as_many_tokens_as_asked_for(model, sae):
    assert math.isnan(evaluate(model, sae, TEXTS, n_loss_tokens=0).losses.recovered)
    some = evaluate(model, sae, TEXTS * 200, n_loss_tokens=50)
    assert 50 <= some.losses.n_tokens < 50 + 2048 < some.n_tokens


def test_packed_rows_are_other_text_to_the_model(model, sae):
    alone, packed = (evaluate(model, sae, TEXTS, context=context) for context in (None, 16))
    assert packed.n_tokens == alone.n_tokens and packed.losses.n_tokens < alone.losses.n_tokens  # rows cut documents
    assert packed.fvu != pytest.approx(alone.fvu, rel=1e-3)


def test_what_does_not_fit_is_said_before_anything_is_computed(model):
    with pytest.raises(ValueError, match="this SAE reads 8 numbers, but blocks.1.hook_resid_pre of this model has 32"):
        evaluate(model, SAE(SAEConfig(8, 4, HOOK)), TEXTS)
    with pytest.raises(ValueError, match="there is no text to evaluate on"):
        evaluate(model, random_sae(), [])


def test_decoder_cosine_finds_the_nearest_direction(sae):
    order = torch.randperm(D_SAE)
    shuffled = SAE(SAEConfig(D_MODEL, D_SAE, HOOK))
    shuffled.W_dec.data = -3 * sae.W_dec[order]
    shuffled.W_dec.data[5] = 2 * sae.W_dec[7]
    found = decoder_cosine(sae, shuffled)
    assert found.loc[7, "nearest"] == 5 and found.loc[7, "cosine"] == pytest.approx(1)
    ours, theirs = (each.W_dec / each.W_dec.norm(dim=1, keepdim=True) for each in (sae, shuffled))
    cosines = ours @ theirs.T
    np.testing.assert_allclose(found["cosine"], cosines.amax(1).detach(), rtol=1e-5)
    assert found["nearest"].tolist() == cosines.argmax(1).tolist()
    with pytest.raises(ValueError, match="width 32 and 8"):
        decoder_cosine(sae, SAE(SAEConfig(8, 4, HOOK)))


def made(density: list[float], n_tokens: int = 1000, **options) -> Evaluation:
    import pandas as pd

    table = pd.DataFrame({"feature": range(len(density)), "density": density, "max_act": 1.0})
    return Evaluation(2.0, 0.25, Losses(1.0, 1.5, 3.0, 2.0, 99), n_tokens, table, HOOK, **options)


def test_measures_by_hand():
    found = made([0.0, 0.001, 0.5, 1.0])
    assert found.dead == 0.25 and found.explained_variance == 0.75
    assert found.losses.recovered == (3.0 - 1.5) / (3.0 - 1.0) and found.losses.recovered_mean == (2.0 - 1.5) / (2.0 - 1.0)


def test_the_histogram_counts_every_feature_that_fired_once():
    histogram = made([0.0, 0.001, 0.0012, 0.5, 1.0]).density_histogram()
    assert histogram["n_features"].sum() == 4
    assert histogram["low"].iloc[0] == pytest.approx(1e-3) and histogram["high"].iloc[-1] == pytest.approx(1)
    assert histogram["n_features"].iloc[[0, -1]].tolist() == [2, 1]
    assert histogram["n_features"].iloc[-2] == 1  # 0.5 lies between 10^-0.5 and 10^-0.25
    of_one_token = made([0.0, 1.0, 1.0], n_tokens=1).density_histogram()
    assert of_one_token["n_features"].tolist() == [2]


def test_it_shows_itself_without_scripts_and_escapes_names():
    import pandas as pd

    truth = pd.DataFrame({"kind": ["<b>team"], "n_concepts": [3], "f1": [0.5], "found": [1.0]})
    page = made([0.0, 0.5], model_name="<script>x</script>", truth=truth)._repr_html_()
    assert "<script" not in page and "&lt;script&gt;" in page and "&lt;b&gt;team" in page and "start tokens left out" in page
    assert "50.0%: active on none of 1,000 tokens" in page and "data:image/svg+xml" in page


def test_its_text_is_stable():
    assert repr(made([0.0, 0.5])) == (
        "Evaluation of 2 features at blocks.1.hook_resid_pre, over 1,000 tokens; start tokens left out\n"
        "  l0 2.0   fvu 0.250   explained variance 75.0%   dead 50.0%\n"
        "  loss recovered 75.0% against zeros, 50.0% against the mean\n"
        "  loss 1.000, with x_hat 1.500, with zeros 3.000, with the mean 2.000; over 99 tokens"
    )


def test_nothing_measured_is_a_dash_not_a_number():
    found = made([0.0])
    object.__setattr__(found, "losses", Losses(*[math.nan] * 4, n_tokens=0))
    assert "nan" not in found._repr_html_()


READS, WRITES = "blocks.1.mlp.hook_in", "blocks.1.hook_mlp_out"


def made_transcoder(architecture: str = "standard", *, has_skip: bool = False, reads: str = READS) -> Transcoder:
    torch.manual_seed(4)
    k = 5 if architecture == "topk" else None
    how = dict(architecture=architecture, k=k, has_skip=has_skip)
    transcoder = Transcoder(TranscoderConfig(D_MODEL, D_MODEL, D_SAE, reads, WRITES, **how))
    for weight in transcoder.parameters():
        weight.data = 0.3 * torch.randn_like(weight)
    return transcoder.requires_grad_(False)


@pytest.mark.parametrize(("architecture", "has_skip"), [("standard", False), ("topk", True)])
def test_a_transcoder_is_judged_by_the_output_that_it_predicts(model, architecture, has_skip):
    transcoder = made_transcoder(architecture, has_skip=has_skip)
    x, y = activations(model, READS), activations(model, WRITES)
    found = evaluate(model, transcoder, TEXTS)
    acts, y_hat = transcoder.double().encode(x), transcoder.double()(x)
    assert found.l0 == pytest.approx((acts > 0).sum(1).double().mean().item(), rel=1e-3)
    assert found.fvu == pytest.approx(((y - y_hat).square().sum() / (y - y.mean(0)).square().sum()).item(), rel=1e-4)
    assert found.dead == ((acts > 0).sum(0) == 0).double().mean().item()
    np.testing.assert_allclose(found.table["max_act"], acts.amax(0), rtol=1e-4, atol=1e-5)

    losses, mean = found.losses, y.mean(0).float()
    seen = iter([harvest(model, to_tokens(model, text), READS)[:, 1:] for text in TEXTS])  # of the undisturbed model, text by text
    assert losses.spliced == pytest.approx(losses_with(model, lambda _: transcoder.float()(next(seen)), WRITES)[0], rel=1e-5)
    assert losses.clean == pytest.approx(losses_with(model, torch.clone, WRITES)[0], rel=1e-5)
    assert losses.zero == pytest.approx(losses_with(model, torch.zeros_like, WRITES)[0], rel=1e-5)
    assert losses.mean == pytest.approx(losses_with(model, lambda y: mean.expand_as(y), WRITES)[0], rel=1e-5)
    assert f"at {READS} → {WRITES}, over" in repr(found) and "with y_hat" in repr(found)
    assert "with y_hat" in found._repr_html_() and f"{READS} → {WRITES}" in found._repr_html_()


def test_a_transcoder_that_copies_the_output_recovers_everything_and_one_of_the_mean_nothing(model):
    copies = made_transcoder(has_skip=True, reads="blocks.1.mlp.hook_out")
    for weight in copies.parameters():
        weight.data.zero_()
    copies.W_skip.data = torch.eye(D_MODEL)
    found = evaluate(model, copies, TEXTS)
    assert found.fvu == pytest.approx(0, abs=1e-9) and found.losses.recovered == pytest.approx(1, abs=1e-4) and found.dead == 1
    copies.W_skip.data.zero_()
    copies.b_dec.data = activations(model, WRITES).mean(0).float()
    found = evaluate(model, copies, TEXTS)
    assert found.fvu == pytest.approx(1, abs=1e-5) and found.losses.recovered_mean == pytest.approx(0, abs=1e-5)


def test_a_transcoder_s_batches_change_nothing(model, monkeypatch):
    transcoder = made_transcoder()
    whole = evaluate(model, transcoder, TEXTS)
    in_small_batches(monkeypatch)
    assert evaluate(model, transcoder, TEXTS).measures() == pytest.approx(whole.measures(), rel=1e-5)


def test_a_transcoder_of_another_model_is_refused(model):
    other = Transcoder(TranscoderConfig(D_MODEL, 8, 4, READS, WRITES)).requires_grad_(False)
    with pytest.raises(ValueError, match="this transcoder writes 8 numbers, but blocks.1.hook_mlp_out of this model has 32"):
        evaluate(model, other, TEXTS)
