"""Workbench: the parts must fit, names load, another width is one word away, and it shows what it is."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from made_folders import HOOK, PROMPT

from workbench.bench import Workbench
from workbench.benches import load
from workbench.circuits.metrics import logit_diff
from workbench.features.index.examples import Examples
from workbench.sae.config import SAEConfig
from workbench.sae.sae import SAE


def made_sae(d_in: int = 16, d_sae: int = 8, hook_name: str = HOOK) -> SAE:
    sae = SAE(SAEConfig(d_in, d_sae, hook_name)).requires_grad_(False)
    for weight in sae.parameters():
        torch.nn.init.normal_(weight)
    return sae


def test_folders_load_frozen(bench: Workbench):
    assert not any(weight.requires_grad for weight in [*bench.model.parameters(), *bench.sae.parameters()])
    assert not bench.model.training


def test_loaded_parts_make_the_same_workbench(bench: Workbench):
    again = load(bench.model, sae=bench.sae)
    assert again.model is bench.model
    assert again.sae is bench.sae


def test_rank_from_the_bench_measures_every_active_pair_of_the_prompt(bench: Workbench):
    ranking = bench.rank(PROMPT, logit_diff(" Sacramento", " Albany"), progress=False)
    assert ranking.prompt == PROMPT
    assert ranking.hook_name == HOOK
    assert ranking.table["effect"].notna().all()


def test_ablate_measures_only_the_largest_attributions(bench: Workbench):
    table = bench.rank(PROMPT, logit_diff(" Sacramento"), ablate=5, progress=False).table
    assert table["effect"].notna().sum() == 5
    assert set(table[table["effect"].notna()].index) == set(table["attribution"].abs().nlargest(5).index)


def test_another_width_keeps_the_model_and_leaves_behind_what_was_known_of_the_first(bench: Workbench):
    narrow = made_sae()
    both = replace(bench, saes={"64": bench.sae, "8": narrow}, labels={3: "a label"}, examples=lambda feature: [])
    other = both.with_sae("8")
    assert other.sae is narrow and other.sae_name == "8"
    assert other.model is bench.model
    assert not other.labels and other.examples is None
    assert other.with_sae("64").sae is bench.sae
    assert both.with_sae("64").labels == {3: "a label"}


def test_another_width_looks_its_examples_up_in_the_same_texts(bench: Workbench):
    both = replace(bench, saes={"64": bench.sae, "32": made_sae(d_sae=32)})
    both = replace(both, examples=Examples(bench.model, bench.sae, [PROMPT, "Fact: the state of Kobe Bryant"]))
    examples = both.with_sae("32").examples
    acts = both.saes["32"].encode(bench.model.run_with_cache(PROMPT)[1][HOOK][0])
    feature = int(acts[1:].sum(0).argmax())
    shown = {"".join(example.str_tokens): example.activations for example in examples(feature)}[PROMPT]
    assert shown == pytest.approx(acts[1:, feature].tolist(), abs=1e-4)


def test_a_width_that_is_not_there_names_those_that_are(bench: Workbench):
    with pytest.raises(ValueError, match="'16k'.* there is 64, 8"):
        replace(bench, saes={"64": bench.sae, "8": made_sae()}).with_sae("16k")


def test_parts_that_do_not_fit_are_refused(bench: Workbench):
    with pytest.raises(ValueError, match="reads 24 numbers, .* has 16"):
        Workbench(model=bench.model, sae=made_sae(d_in=24))
    with pytest.raises(ValueError, match=f"Did you mean {HOOK!r}"):
        Workbench(model=bench.model, sae=made_sae(hook_name="blocks.1.hook_resid_prr"))
    broken = made_sae()
    broken.b_dec[0] = torch.nan
    with pytest.raises(ValueError, match="b_dec has 1 NaN"):
        replace(bench, saes={"64": bench.sae, "broken": broken})


def test_a_model_without_its_sae_says_what_is_missing():
    with pytest.raises(ValueError, match="needs an SAE trained on that model"):
        load("gpt2")


def test_the_sae_is_read_before_the_model(tmp_path: Path):
    with pytest.raises(ValueError, match="is not an SAE"):
        load("a hub name that would need the network", sae=tmp_path)


def test_a_bench_shows_what_it_is_and_its_text_never_becomes_markup(bench: Workbench):
    named = replace(bench, name="<script>alert(1)</script>", labels={3: "a label"}, saes={"<b>64": bench.sae, "<b>8": made_sae()})
    assert "2 layers, d_model 16" in repr(named)
    assert f"64 features at {HOOK} (also: <b>8)" in repr(named)
    assert "<script>" not in named._repr_html_()
    assert "&lt;script&gt;" in named._repr_html_() and "<b>8" not in named._repr_html_() and "&lt;b&gt;8" in named._repr_html_()


def test_what_is_active_beside_other_texts_is_said_on_pages_and_of_steered_texts(bench: Workbench):
    sae = SAE(SAEConfig(16, 8, HOOK, architecture="batchtopk", k=2))
    for weight in sae.parameters():
        torch.nn.init.normal_(weight)
    together = replace(bench, sae=sae.requires_grad_(False), index=None, examples=Examples(bench.model, sae, [PROMPT]))
    page, texts = together.feature(1), together.steer(PROMPT, {1: 2.0}, max_act={1: 1.0}, max_new_tokens=2)
    for shown in (page, texts):
        assert any("BatchTopK without a threshold" in note for note in shown.notes)
        assert "BatchTopK without a threshold" in repr(shown) and "BatchTopK without a threshold" in shown._repr_html_()
    alone = made_sae()
    assert not replace(bench, sae=alone, index=None, examples=Examples(bench.model, alone, [PROMPT])).feature(1).notes
