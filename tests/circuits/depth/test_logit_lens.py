"""The logit lens: at the last depth the model itself, before it the final norm and the unembedding by hand, at any position."""

import pytest
import torch
from made_models import FAMILIES, N_LAYERS, n_hooks

from workbench.circuits.depth.logit_lens import logit_lens
from workbench.model.hooks import seen
from workbench.model.tokens import to_tokens

PROMPT = "the cat sat on the mat"


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_the_last_depth_is_the_models_own_prediction_at_that_place(model_of, family: str):
    model = model_of(family)
    lens = logit_lens(model, PROMPT, 3, top=4)
    expected = model(to_tokens(model, PROMPT))[0, 3].softmax(-1).topk(4)
    last = lens.table[lens.table["layer"] == N_LAYERS]
    assert last["probability"].to_numpy() == pytest.approx(expected.values.numpy(), rel=1e-3)
    assert last["token"].iloc[0] == lens.answer and lens.own["rank"].iloc[-1] == 1
    assert lens.table.groupby("layer")["rank"].max().tolist() == [4] * (N_LAYERS + 1)


@torch.no_grad()
def test_each_depth_is_the_final_norm_and_the_unembedding_of_its_stream(model_of):
    model, caught, before = model_of("gpt2"), [], n_hooks(model_of("gpt2"))
    lens = logit_lens(model, PROMPT, " sat")
    assert n_hooks(model) == before and lens.pos == 3
    with seen(model, "blocks.2.hook_resid_pre", caught.append):
        model(to_tokens(model, PROMPT))
    x = caught[0][0, 3]
    centered = x - x.mean()
    y = model.ln_final.w * centered / (centered.square().mean() + model.cfg.eps).sqrt() + model.ln_final.b
    p = (y @ model.unembed.W_U).softmax(-1)
    there = lens.table[lens.table["layer"] == 2]
    assert there["probability"].to_numpy() == pytest.approx(p.topk(5).values.numpy(), rel=1e-4)
    own = lens.own.iloc[2]
    final = int(model(to_tokens(model, PROMPT))[0, 3].argmax())
    assert own["probability"] == pytest.approx(float(p[final]), rel=1e-4) and own["rank"] == 1 + int((p > p[final]).sum())


def test_what_is_no_token_of_the_prompt_is_refused_and_tokens_are_text(model_of):
    model = model_of("gpt2")
    with pytest.raises(ValueError, match="position 40 is not in the prompt"):
        logit_lens(model, PROMPT, 40)
    with pytest.raises(ValueError, match="'zebra' is no token of the prompt"):
        logit_lens(model, PROMPT, "zebra")
    with pytest.raises(ValueError, match="top=0 asks for no token"):
        logit_lens(model, PROMPT, top=0)
    lens = logit_lens(model, PROMPT)
    assert lens.pos == len(lens.str_tokens) - 1 and "nostalgebraist 2020" in lens._repr_html_() and "nostalgebraist" in repr(lens)
    lens.table.loc[0, "token"] = "<img src=x>"
    assert "<img" not in lens._repr_html_()
