"""Models that behave otherwise: each is right to rounding, or refused in words before any number is shown."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from made_models import GROUPED, SIZES, random_hf_model, random_sae

from workbench.bench import Workbench
from workbench.circuits.depth.heads import head_effects
from workbench.circuits.intervene import clamp
from workbench.circuits.metrics import logit_diff
from workbench.circuits.ranking.ablation import ablate
from workbench.circuits.ranking.attribution import attribute
from workbench.model.hooks import check_sae, last_logits
from workbench.model.model import load_model
from workbench.model.points import HookPointError, installed, obeyed
from workbench.replay.replay import Replay

METRIC = logit_diff(5, 7)
PAD = dict(pad_token_id=1)
ALIBI = dict(vocab_size=300, hidden_size=32, num_hidden_layers=4, num_attention_heads=4, bos_token_id=0, eos_token_id=0)
MADE: dict[str, Any] = {
    "opt": lambda: transformers.OPTConfig(**(SIZES | PAD), ffn_dim=64, word_embed_proj_dim=32),
    "bloom": lambda: transformers.BloomConfig(**ALIBI, n_layer=4, n_head=4),
    "falcon": lambda: transformers.FalconConfig(**ALIBI, alibi=True),
    "cohere": lambda: transformers.CohereConfig(**(SIZES | PAD), num_key_value_heads=2),
    "granite": lambda: transformers.GraniteConfig(**SIZES, num_key_value_heads=2, logits_scaling=8.0, residual_multiplier=0.3),
    "gemma4": lambda: transformers.Gemma4TextConfig(
        **(SIZES | PAD | GROUPED),
        global_head_dim=8,
        num_kv_shared_layers=2,
        hidden_size_per_layer_input=8,
        vocab_size_per_layer_input=300,
        layer_types=["sliding_attention", "full_attention"] * 2,
    ),
    "bert": lambda: transformers.BertConfig(**(SIZES | PAD)),
    "t5": lambda: transformers.T5Config(vocab_size=300, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4),
    "vit": lambda: transformers.ViTConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, image_size=32),
    "olmo": lambda: transformers.OlmoConfig(**(SIZES | PAD)),
    "gemma3": lambda: transformers.Gemma3TextConfig(**(SIZES | PAD | GROUPED)),
}
CLASSES = {"bert": transformers.BertForMaskedLM, "t5": transformers.T5ForConditionalGeneration, "vit": transformers.ViTModel}


def made(kind: str) -> Any:
    torch.manual_seed(0)
    config = MADE[kind]()
    hf_model = CLASSES[kind](config) if kind in CLASSES else transformers.AutoModelForCausalLM.from_config(config)
    for weight in hf_model.parameters():
        weight.data += 0.1 * torch.randn_like(weight)
    return hf_model.eval()


@pytest.fixture(scope="module")
def other(tokenizer):
    """kind → a model of that kind."""
    loaded: dict[str, Any] = {}

    def load(kind: str) -> Any:
        if kind not in loaded:
            loaded[kind] = load_model(made(kind), tokenizer=tokenizer)
        return loaded[kind]

    return load


def by_hooked_passes(model: Any, sae: Any, tokens: torch.Tensor, pairs: torch.Tensor) -> torch.Tensor:
    """The definition: one row, all logits, one hooked pass of the bridge for each pair."""

    def metric(logits: torch.Tensor) -> torch.Tensor:
        return logits[0, -1, 5] - logits[0, -1, 7]

    effects = []
    for pos, feature in pairs.tolist():

        def remove(x: torch.Tensor, hook: Any, pos: int = pos, feature: int = feature) -> torch.Tensor:
            x = x.clone()
            x[0, pos] -= (sae.encode(x[0, pos])[feature] * sae.W_dec[feature]).view(x.shape[2:])
            return x

        effects.append(metric(model(tokens)) - metric(model.run_with_hooks(tokens, fwd_hooks=[(sae.cfg.hook_name, remove)])))
    return torch.stack(effects)


@pytest.mark.parametrize("kind", ["opt", "bloom", "falcon", "cohere", "granite", "gemma4"])
def test_effects_are_those_of_hooked_passes_and_none_of_them_needs_whole_ones(other, tokens, kind):
    model, sae = other(kind), random_sae("blocks.2.hook_resid_pre")
    pairs = attribute(model, sae, tokens, METRIC).pairs[::9]
    expected = by_hooked_passes(model, sae, tokens, pairs)
    replay = Replay(model, sae.cfg.hook_name, tokens)
    assert replay.way == "prefix", replay.why_not
    torch.testing.assert_close(
        ablate(model, sae, tokens, METRIC, pairs, progress=False), expected, rtol=0, atol=1e-4 * expected.abs().max().item()
    )


def test_a_clamp_at_the_first_position_of_a_layer_with_shared_keys_leaves_the_last_token_alone(other, tokens):
    """Asked for one logit, Gemma 4 runs its shared layers at the last position only."""
    model, sae = other("gemma4"), random_sae("blocks.2.hook_resid_pre")
    bench, caught = Workbench(model=model, sae=sae), []
    with clamp(bench, {3: 5.0}, pos=0), model.hooks(fwd_hooks=[(sae.cfg.hook_name, lambda x, hook: caught.append(x.clone()))]):
        logits = last_logits(model, tokens)
    with clamp(bench, {3: 5.0}, pos=0):
        torch.testing.assert_close(logits, model(tokens)[:, -1])
    assert caught[0].shape[1] == tokens.shape[1]


def test_attention_that_is_shown_and_then_ignored_is_an_error_not_an_effect_of_nothing(other, tokens, model):
    opt = other("opt")
    assert obeyed(model, "blocks.2.attn.hook_attn_scores") and not obeyed(opt, "blocks.2.attn.hook_attn_scores")
    sae = random_sae("blocks.1.hook_resid_pre")
    with pytest.raises(HookPointError, match=r"ignores what is put at blocks\.\d\.attn\.hook_attn_scores.*serves"):
        head_effects(Workbench(model=opt, sae=sae), "the cat sat", METRIC, int(attribute(opt, sae, tokens, METRIC).pairs[0, 1]))


def test_a_hook_point_is_as_wide_as_it_is_seen_to_be(other):
    """OPT's config names its MLP's width otherwise than TransformerLens reads it."""
    check_sae(other("opt"), random_sae("blocks.1.mlp.hook_post", d_in=64))
    with pytest.raises(ValueError, match="reads 128 numbers, but blocks.1.mlp.hook_post of this model has 64"):
        check_sae(other("opt"), random_sae("blocks.1.mlp.hook_post", d_in=128))


def test_a_hook_point_that_is_switched_off_is_refused_with_the_switch(model):
    with pytest.raises(HookPointError, match="set_use_hook_mlp_in"):
        check_sae(model, random_sae("blocks.1.hook_mlp_in"))


def test_a_hook_point_without_a_vector_for_each_token_is_refused_with_one_that_has_them(model):
    with pytest.raises(
        HookPointError, match=r"holds \(2, 4, 5, 5\) for 2 × 5 tokens of this model, not one vector for each; blocks.1.*serves"
    ):
        check_sae(model, random_sae("blocks.1.attn.hook_pattern"))


def test_the_hooks_by_which_a_bridge_passes_activations_on_are_not_somebodys(other):
    opt = other("opt")
    assert installed(opt) == []
    with opt.hooks(fwd_hooks=[("blocks.1.hook_resid_pre", lambda x, hook: None)]):
        assert "blocks.1.hook_in" in installed(opt)


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("bert", "BertForMaskedLM looks both ways, a later token changes the logits at earlier ones"),
        ("t5", "T5ForConditionalGeneration reads one text with an encoder and writes another with a decoder"),
        ("vit", "ViTModel reads images, not text"),
    ],
)
def test_what_has_no_next_token_from_left_to_right_is_refused_when_it_is_loaded(tokenizer, tmp_path: Path, kind, sentence):
    made(kind).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=sentence):
        load_model(tmp_path)


@pytest.mark.parametrize("kind", ["olmo", "gemma3"])
def test_a_model_built_from_a_config_and_never_saved_is_known_by_its_class(other, kind):
    assert other(kind).cfg.architecture.lower().startswith(kind)


def test_truncated_weights_are_said_in_one_line(tokenizer, tmp_path: Path):
    random_hf_model("gpt2").save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(ValueError, match="cannot be loaded: ") as raised:
        load_model(tmp_path)
    assert "\n" not in str(raised.value)


def test_no_processor_of_images_is_loaded_and_nothing_is_installed(tokenizer, tmp_path: Path, monkeypatch):
    import subprocess

    monkeypatch.setattr(subprocess, "check_call", lambda *_, **__: pytest.fail("something was to be installed"))
    text = transformers.Gemma3TextConfig(**(SIZES | PAD | GROUPED))
    vision = dict(hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=64, image_size=28, patch_size=14)
    config = transformers.Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4)
    transformers.Gemma3ForConditionalGeneration(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert last_logits(load_model(tmp_path), torch.tensor([[2, 3, 4]])).shape == (1, 300)


def test_a_ranking_is_the_same_in_inference_mode(model, sae):
    expected = Workbench(model=model, sae=sae).rank("the cat sat", METRIC, progress=False).table
    with torch.inference_mode():
        found = Workbench(model=model, sae=sae).rank("the cat sat", METRIC, progress=False).table
    assert found.equals(expected)
