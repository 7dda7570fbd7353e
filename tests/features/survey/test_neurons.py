"""Correlations of features with neurons equal numpy.corrcoef, whatever the batches; they are kept beside an index and shown."""

from pathlib import Path

import numpy as np
import pytest
import torch
from made_evidence import TEXTS
from made_models import random_sae

from workbench.features.index.index import FeatureIndex, build_index
from workbench.features.survey import neurons
from workbench.features.survey.activity import read_activity
from workbench.features.survey.neurons import correlate, neuron_units, neurons_before
from workbench.model.model import load_model


def dense(model, sae) -> tuple[np.ndarray, np.ndarray]:
    """(features, neurons of the blocks before), a text at a time, in float64."""
    names = [f"blocks.{layer}.mlp.hook_post" for layer in range(int(sae.cfg.hook_name.split(".")[1]))]
    caches = [model.run_with_cache(text)[1] for text in TEXTS[:40]]
    ours = [sae.encode(cache[sae.cfg.hook_name][0, 1:]) for cache in caches]
    theirs = [torch.cat([cache[name][0, 1:] for name in names], dim=1) for cache in caches]
    return torch.cat(ours).double().numpy(), torch.cat(theirs).double().numpy()


def test_correlations_are_numpys_over_all_layers_before(model, monkeypatch):
    sae = random_sae("blocks.2.hook_resid_pre")
    monkeypatch.setattr(neurons, "N_TOKENS", 50)
    monkeypatch.setattr(neurons, "N_ROWS", 7)
    found = correlate(model, sae, TEXTS[:40], range(64), progress=False)
    ours, theirs = dense(model, sae)
    is_active = ours.std(0) > 0
    r = np.corrcoef(ours[:, is_active].T, theirs.T)[: is_active.sum(), is_active.sum() :]
    assert found.n_neurons == theirs.shape[1] == 2 * 128 and found.n_tokens == len(ours)
    table = found.table.set_index("feature")
    assert table.index.tolist() == np.flatnonzero(is_active).tolist()
    np.testing.assert_allclose(table["correlation"].abs(), np.abs(r).max(1), atol=2e-5)  # activations are float32, batched otherwise
    for row, feature in enumerate(table.index[:5]):
        at = int(np.abs(r[row]).argmax())
        assert table["neuron"][feature] == f"blocks.{at // 128}.mlp {at % 128}" and table["layer"][feature] == at // 128
        assert table["correlation"][feature] == pytest.approx(r[row, at], abs=2e-5)
    assert found.share(0.3) == (np.abs(r).max(1) <= 0.3).mean()


def test_a_large_common_offset_costs_no_digits():
    """Sums of squares of values around 10⁶ would lose half of float64's digits."""
    torch.manual_seed(0)
    x, y = torch.randn(500, 2).double() + 1e6, torch.randn(500, 3).double() + 1e6
    y[:, 0] = x[:, 0] + 0.1 * torch.randn(500).double()
    sums = neurons._Sums(x, y)
    for some in range(0, 500, 100):
        sums.add(x[some : some + 100], y[some : some + 100])
    expected = np.corrcoef(x.T.numpy(), y.T.numpy())[:2, 2:]
    np.testing.assert_allclose(sums.pearson().numpy(), expected, atol=1e-9)


def test_neurons_before_a_hook_point_are_those_that_it_has_behind_it():
    assert neurons_before("blocks.1.hook_resid_pre") == ["blocks.0.mlp.hook_post"]
    for behind in ("hook_resid_post", "hook_out", "hook_mlp_out", "mlp.hook_out"):
        assert neurons_before(f"blocks.1.{behind}") == ["blocks.0.mlp.hook_post", "blocks.1.mlp.hook_post"]
    for before in ("hook_resid_mid", "hook_in", "attn.hook_out", "mlp.hook_in"):
        assert neurons_before(f"blocks.1.{before}") == ["blocks.0.mlp.hook_post"]
    with pytest.raises(ValueError, match="no MLP comes before blocks.0.hook_resid_pre"):
        neurons_before("blocks.0.hook_resid_pre")
    with pytest.raises(ValueError, match="is not inside a block"):
        neurons_before("hook_embed")


def test_they_are_kept_beside_an_index_and_shown_on_its_pages(model, tmp_path: Path):
    sae = random_sae()
    index = build_index(model, sae, TEXTS[:40], tmp_path, progress=False)
    assert index.feature(3).neurons == []
    found = correlate(model, sae, TEXTS[:40], [3, 5], progress=False)
    found.save(index)
    again = FeatureIndex.open(index.folder)
    assert again.feature(3).neurons == found.kept[3] and len(found.kept[3]) == 5
    assert found.kept[3][0].neuron in again.feature(3)._repr_html_() and again.feature(4).neurons == []


def test_neurons_can_be_read_as_features_are(model):
    from workbench.features.survey.activity import read_activity

    units = {"neurons": neuron_units(model, "blocks.0.mlp.hook_post", [3, 7])}
    activity = read_activity(model, units, TEXTS[:5], progress=False)["neurons"]
    expected = model.run_with_cache(TEXTS[0])[1]["blocks.0.mlp.hook_post"][0, 1:, [3, 7]].clamp_min(0).numpy()
    np.testing.assert_allclose(activity.acts[: len(expected)].toarray(), expected, atol=1e-5)


def test_what_cannot_be_correlated_is_said(model):
    with pytest.raises(ValueError, match="there is no text"):
        correlate(model, random_sae(), [], progress=False)
    with pytest.raises(ValueError, match="the SAE has features 0 to 63"):
        correlate(model, random_sae(), TEXTS, [64], progress=False)


def test_activity_of_a_model_of_16_bits_is_read_by_an_sae_of_32(folder_of):
    model, sae, texts = load_model(folder_of("gpt2"), dtype=torch.bfloat16), random_sae(), TEXTS[:3]
    found = read_activity(model, {"": sae}, texts, progress=False)[""].acts.toarray()
    with torch.no_grad():
        expected = torch.cat([sae.encode(model.run_with_cache(text)[1][sae.reads][0, 1:].float()) for text in texts])
    np.testing.assert_allclose(found, expected, rtol=5e-2, atol=5e-2)  # rows together are rounded otherwise than one alone
