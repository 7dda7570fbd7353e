"""Loading freezes, tokens are readable, and what a user typed wrong is answered with what to type instead."""

import pytest
import torch
from made_models import D_MODEL, N_CTX, TEXT, random_hf_model, random_sae
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from workbench.circuits.metrics import logit_diff
from workbench.circuits.ranking.attribution import attribute
from workbench.circuits.ranking.few_rows import _FewRows
from workbench.model.hooks import check_hook_name, check_sae, last_logits
from workbench.model.model import load_model
from workbench.model.tokens import answer_token, is_start_token, to_str_tokens, to_tokens
from workbench.sae.config import SAEConfig
from workbench.sae.sae import SAE


def test_a_folder_loads_with_the_checkpoints_own_logits(model, tokens):
    with torch.no_grad():
        expected = random_hf_model("gpt2")(tokens).logits
    torch.testing.assert_close(model(tokens), expected, rtol=1e-5, atol=1e-5)


def test_everything_is_frozen_even_weights_that_the_bridge_split(model, tokens):
    assert not model(tokens).requires_grad
    assert not model.training


def test_split_weights_have_no_gaps_between_rows(model):
    matrices = [weight for module in model.modules() for weight in module.parameters(recurse=False) if weight.ndim == 2]
    assert all(weight.is_contiguous() or weight.T.is_contiguous() for weight in matrices)


def test_objects_load_without_files(tokenizer, tokens):
    bridge = load_model(random_hf_model("llama"), tokenizer=tokenizer)
    assert not bridge(tokens).requires_grad
    assert load_model(bridge) is bridge
    assert to_str_tokens(bridge, to_tokens(bridge, "the cat"))[-2:] == ["the", " cat"]


def test_dtype_is_said_once_when_loading(folder_of):
    assert load_model(folder_of("gpt2"), dtype=torch.float64)(torch.zeros(1, 3, dtype=torch.long)).dtype == torch.float64


@pytest.mark.parametrize(("wrong", "says"), [("./nowhere", "no such folder"), (3, "int is not a model")])
def test_what_is_no_model_is_refused(wrong, says):
    with pytest.raises(ValueError, match=says):
        load_model(wrong)


def test_a_folder_without_a_model_says_what_it_holds(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(ValueError, match=r"config\.json is missing \(found: notes\.txt\)"):
        load_model(tmp_path)


def test_a_hub_name_that_cannot_be_asked_for_is_one_clear_error(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match="neither a folder here nor a model in the local cache"):
        load_model("no-such-user/no-such-model")


def test_the_start_token_leads_and_is_the_only_one_masked(model):
    tokens = to_tokens(model, TEXT)
    assert to_str_tokens(model, tokens)[:3] == ["<|start|>", "the", " cat"]
    assert is_start_token(model, tokens).tolist() == [[True] + [False] * (tokens.shape[1] - 1)]


def test_tokens_that_are_parts_of_characters_are_readable(model):
    str_tokens = to_str_tokens(model, to_tokens(model, "the 猫"))
    assert len(str_tokens) > 3 and not any("\ufffd" in text or not text for text in str_tokens)


@pytest.mark.parametrize("prompt", ["", "  \n"])
def test_an_empty_prompt_is_refused(model, prompt):
    with pytest.raises(ValueError, match="prompt is empty"):
        to_tokens(model, prompt)


def test_a_prompt_as_long_as_the_context_passes_and_one_token_more_is_refused(model):
    longest = "the" + " cat" * (N_CTX - 2)
    assert to_tokens(model, longest).shape == (1, N_CTX)
    with pytest.raises(ValueError, match=f"{N_CTX + 1} tokens long; this model reads at most {N_CTX}"):
        to_tokens(model, longest + " cat")


def test_an_answer_of_several_tokens_says_how_it_tokenizes_and_what_to_type(model):
    assert to_str_tokens(model, torch.tensor([answer_token(model, " cat")])) == [" cat"]
    with pytest.raises(ValueError, match=r"'dog' is 2 tokens, \['do', 'g'\].*Did you mean ' dog'\?"):
        answer_token(model, "dog")
    with pytest.raises(ValueError, match=r"first token, ' '$"):
        answer_token(model, " zebra")


def test_an_answer_outside_of_the_vocabulary_gets_the_nearest_word(folder_of):
    words = Tokenizer(models.WordLevel({"<s>": 0, "[UNK]": 1, "Sacramento": 2}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<s>", eos_token="<s>", unk_token="[UNK]")
    bridge = load_model(random_hf_model("llama"), tokenizer=tokenizer)
    assert answer_token(bridge, "Sacramento") == 2
    with pytest.raises(ValueError, match="'Sacremento' is not in the vocabulary. Did you mean 'Sacramento'"):
        answer_token(bridge, "Sacremento")


@pytest.mark.parametrize("token", [-1, 300])
def test_a_token_id_outside_of_the_vocabulary_is_refused(model, token):
    with pytest.raises(ValueError, match="expected 0 to 299"):
        answer_token(model, token)


def test_a_misspelled_hook_name_gets_the_nearest_right_one(model):
    check_hook_name(model, "blocks.1.hook_resid_pre")
    with pytest.raises(ValueError, match=r"Did you mean 'blocks\.1\.hook_resid_pre'"):
        check_hook_name(model, "blocks.1.hook_resid_per")


def test_an_sae_that_cannot_read_the_model_is_refused(model, sae):
    check_sae(model, sae)
    check_sae(model, random_sae("blocks.0.mlp.hook_post", d_in=4 * D_MODEL))
    with pytest.raises(ValueError, match=f"reads 16 numbers, but blocks.1.hook_resid_pre of this model has {D_MODEL}"):
        check_sae(model, random_sae(d_in=16))
    with pytest.raises(ValueError, match=f"has {D_MODEL}: an SAE for another model"):
        check_sae(model, random_sae("blocks.1.attn.hook_z", d_in=4 * D_MODEL))
    with pytest.raises(ValueError, match="no hook point 'blocks.9.hook_resid_pre'"):
        check_sae(model, random_sae("blocks.9.hook_resid_pre"))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_one_weight_that_is_no_number_is_found(model, sae, value):
    sae.W_dec.data[3, 5] = value
    with pytest.raises(ValueError, match="W_dec has 1 NaN or infinite"):
        check_sae(model, sae)


def test_weights_are_looked_at_again_where_they_were_written_to(model, sae, tokens):
    check_sae(model, sae)
    with torch.no_grad():
        sae.W_dec[3, 5] = float("nan")
    with pytest.raises(ValueError, match="W_dec has 1 NaN or infinite"):
        check_sae(model, sae)
    with torch.no_grad():
        sae.W_dec[3, 5] = 0.0
    check_sae(model, sae)
    sae.W_dec.data[:] = float("nan")  # which no counter tells: what is computed from it does
    with pytest.raises(ValueError, match="W_dec has .* NaN or infinite"):
        attribute(model, sae, tokens, logit_diff(5, 7))
    sae.W_dec.data[:] = 1e5
    check_sae(model, sae)
    with pytest.raises(ValueError, match="W_dec has .* NaN or infinite"):
        check_sae(model, sae.half().float())  # 1e5 is infinite there, and may lie where it lay
    sae.W_dec.data[:] = 0.0
    sae.b_enc.data[3] = float("nan")
    with pytest.raises(ValueError, match="b_enc has 1 NaN or infinite"):
        check_sae(model, sae)


def test_a_gradient_of_few_logits_is_that_of_all():
    x = torch.randn(2, 1, D_MODEL, requires_grad=True)
    weight = torch.randn(100, D_MODEL)
    logits = x @ weight.T
    for columns in ([3, 90], list(range(100))):
        (expected,) = torch.autograd.grad(logits[..., columns].sum(), x, retain_graph=True)
        (found,) = torch.autograd.grad(_FewRows.apply(x, weight, logits.detach())[..., columns].sum(), x)
        torch.testing.assert_close(found, expected)


def test_an_sae_of_another_known_model_is_refused(tokenizer):
    hf_model = random_hf_model("gpt2")
    hf_model.config._name_or_path = "gpt2"
    bridge = load_model(hf_model, tokenizer=tokenizer)
    check_sae(bridge, SAE(SAEConfig(D_MODEL, 8, "blocks.1.hook_resid_pre", model_name="openai-community/gpt2-small")).requires_grad_(False))
    with pytest.raises(ValueError, match="trained on 'google/gemma-2-2b', the model is 'gpt2'"):
        check_sae(bridge, SAE(SAEConfig(D_MODEL, 8, "blocks.1.hook_resid_pre", model_name="google/gemma-2-2b")).requires_grad_(False))


def test_last_logits_are_those_of_the_last_position_whether_or_not_the_model_can_leave_out_the_others(model, tokens, monkeypatch):
    expected, forward = model(tokens)[:, -1], model.original_model.forward
    torch.testing.assert_close(last_logits(model, tokens), expected)
    monkeypatch.setitem(vars(model.original_model), "forward", lambda input_ids, **kwargs: forward(input_ids, **kwargs))
    torch.testing.assert_close(last_logits(model, tokens), expected)
