"""A dictionary of two models, by hand: whose a feature is, and whether the other model has it after all."""

import numpy as np
import pytest
import torch
from made_models import random_hf_model, random_sae

import workbench as wb
from workbench.bench import Workbench
from workbench.features.changes import crosscoder as crosscoder_module
from workbench.features.changes.crosscoder import Crosscoder, PairStream, _add, _marked, _Sums, _table, read_crosscoder
from workbench.features.changes.reads import Spread
from workbench.model.model import load_model
from workbench.model.tokens import to_tokens
from workbench.sae.config import SAEConfig
from workbench.sae.sae import SAE

D, TEXTS = 4, [f"the cat sat on the mat and the dog ran to a cat {i}" for i in range(40)]
ROWS = torch.tensor([[1.0, 0, 0, 0, 1, 0, 0, 0], [0, 0, 0, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0, 0, 1, 0], [0, 0, 0, 1, 0, 0, 0, 0]])


def crosscoder() -> Crosscoder:
    """Feature 0 is of both; 1 and 2 are the tuned model's; 3 the base's. Each is read where it stands in the model that has it."""
    sae = SAE(SAEConfig(2 * D, 4, "blocks.1.hook_resid_pre"))
    sae.W_dec.data, sae.W_enc.data = ROWS / ROWS.norm(dim=1, keepdim=True), ROWS.T.clone()
    sae.W_enc.data[:4, 0] = 0  # of both, but read in the tuned model: its own part must not count double
    return Crosscoder(_marked(sae.requires_grad_(False)))


def table(base: torch.Tensor, tuned: torch.Tensor):
    zeros = torch.zeros(2, 4, dtype=torch.float64)
    sums = _Sums(zeros.clone(), zeros.clone(), zeros[0].clone(), zeros[0].clone(), [0.0, 0.0], (Spread(), Spread()))
    _add(sums, crosscoder(), [base, tuned])
    return _table(sums, crosscoder(), len(base)).set_index("feature")


def test_shares_are_of_the_norms():
    assert crosscoder().shares.tolist() == [0.5, 1.0, 1.0, 0.0]


def test_a_feature_that_the_other_model_lacks_is_confirmed_and_one_that_its_error_holds_is_not():
    draws = torch.Generator().manual_seed(0)
    tuned = torch.rand(500, D, generator=draws)
    base = torch.zeros(500, D)
    base[:, 2] = tuned[:, 2]  # feature 2: the base has it too, and no feature explains it there
    base[:, 3] = torch.rand(500, generator=draws)  # feature 3: the base's own
    tuned[:, 3] = 0
    found = table(base, tuned)
    assert found["kind"].to_dict() == {0: "shared", 1: "tuned only", 2: "tuned only", 3: "base only"}
    assert abs(found.loc[1, "nu_error"]) < 1e-6 and found.loc[1, "is_confirmed"]
    assert found.loc[2, "nu_error"] == pytest.approx(1, abs=1e-5) and not found.loc[2, "is_confirmed"]
    assert found.loc[3, "is_confirmed"] and np.isnan(found.loc[0, "nu_error"])
    np.testing.assert_allclose(found["density"], [1, 1, 1, 1])


def test_a_feature_that_the_other_models_other_features_hold_is_not_confirmed():
    tuned = torch.rand(500, D, generator=torch.Generator().manual_seed(1))
    tuned[:, 3] = 0
    base = torch.zeros(500, D)
    base[:, 3] = 1.0
    both = crosscoder()
    both.sae.W_dec.data[3, 1] = 0.5  # the base's feature writes where the tuned model's feature 1 does
    zeros = torch.zeros(2, 4, dtype=torch.float64)
    sums = _Sums(zeros.clone(), zeros.clone(), zeros[0].clone(), zeros[0].clone(), [0.0, 0.0], (Spread(), Spread()))
    _add(sums, both, [base, tuned])
    row = _table(sums, both, 500).set_index("feature").loc[1]
    assert row["nu_reconstruction"] > 0.5 and not row["is_confirmed"]


@pytest.fixture(scope="module")
def bench(model_of) -> Workbench:
    return Workbench(model=model_of("gpt2"), sae=random_sae())


@pytest.fixture(scope="module")
def tuned(bench: Workbench, tokenizer):
    from made_models import random_hf_model

    hf_model = random_hf_model("gpt2")
    hf_model.get_parameter("transformer.h.0.mlp.c_proj.bias").data += 2 * bench.sae.W_dec[7]
    return load_model(hf_model, tokenizer=tokenizer)


def test_both_halves_are_of_the_same_tokens(bench: Workbench, tuned):
    stream = PairStream(bench.model, tuned, TEXTS, bench.sae.reads, 32)
    x = next(iter(stream))
    base, other = x.split(x.shape[1] // 2, dim=1)
    torch.testing.assert_close(other - base, (2 * bench.sae.W_dec[7]).expand_as(base), atol=1e-4, rtol=0)
    assert stream.scale**2 * float(torch.cat(list(stream)).square().sum(1).mean()) == pytest.approx(stream.d_in, rel=0.1)


def test_trained_saved_and_read_beside_the_other_views(bench: Workbench, tuned, tmp_path):
    made = wb.train_crosscoder(bench, tuned, TEXTS, d_sae=32, k=4, n_steps=8, batch=32, progress=False)
    made.save(tmp_path / "pair")
    again = Crosscoder.load(tmp_path / "pair")
    assert torch.equal(again.sae.W_dec, made.sae.W_dec) and again.d_in == bench.model.cfg.d_model
    changes = wb.diff(bench, tuned, TEXTS[:12], crosscoder=again, progress=False)
    assert changes.crosscoder is not None and "Crosscoder: of" in repr(changes) and "A dictionary of both models" in changes._repr_html_()
    assert all(0 <= share <= 1 for share in changes.crosscoder["share"])


def test_an_sae_of_one_model_and_a_crosscoder_of_others_are_refused(bench: Workbench, tuned, tmp_path):
    bench.sae.save(tmp_path / "one")
    with pytest.raises(ValueError, match="an SAE of one model"):
        Crosscoder.load(tmp_path / "one")
    with pytest.raises(ValueError, match="of other models"):
        read_crosscoder(crosscoder(), bench, tuned, TEXTS[:3], progress=False)


def test_explained_variance_is_about_the_mean_of_all_texts_not_of_the_shortest(model_of, tokenizer, monkeypatch):
    """Batches come shortest first: the mean of the first one is not the mean."""
    hf_model = random_hf_model("gpt2")
    hf_model.get_parameter("transformer.h.0.mlp.c_proj.bias").data += 0.3
    bench, tuned = Workbench(model=model_of("gpt2"), sae=random_sae()), load_model(hf_model, tokenizer=tokenizer)
    torch.manual_seed(4)
    sae = SAE(SAEConfig(2 * 32, 8, "blocks.1.hook_resid_pre"))
    for weight in sae.parameters():
        weight.data = 0.1 * torch.randn_like(weight)
    texts = ["dog", "mat", *("the cat sat on the mat and " + "the dog ran to the cat " * n for n in range(1, 6))]
    monkeypatch.setattr(crosscoder_module, "N_TOKENS", 8)
    found = read_crosscoder(Crosscoder(sae.requires_grad_(False)), bench, tuned, texts, progress=False).attrs["explained"]
    with torch.no_grad():
        x = [
            torch.cat([model.run_with_cache(to_tokens(model, text))[1]["blocks.1.hook_resid_pre"][0, 1:] for text in texts])
            for model in (bench.model, tuned)
        ]
        x_hats = sae(torch.cat(x, dim=1)).split(32, dim=1)
    by_hand = [1 - float((a - b).square().sum() / (a - a.mean(0)).square().sum()) for a, b in zip(x, x_hats, strict=True)]
    assert found == pytest.approx(by_hand, abs=1e-4)
