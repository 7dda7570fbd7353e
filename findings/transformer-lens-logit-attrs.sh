#!/bin/sh
# transformer-lens 4.3.0: on a model as boot_transformers gives it, logit_attrs leaves the final norm's weight out: wrong without a word.
#
# cache.logit_attrs(cache.decompose_resid(…)) should say how much each part of the residual stream adds to a logit; for Llama, which has
# no biases, the parts add up to the logit itself. They are divided by the final norm's scale and multiplied by the unembedding, never by
# the norm's weight: right only where that is folded into the unembedding. HookedTransformer.from_pretrained did so by default; a bridge
# does in enable_compatibility_mode(), which the examples of other methods call and logit_attrs does not mention or check. Until then the
# attributions are another model's: sizes, signs and order of the parts may all differ. (Trained norms have weights far from 1.)
#
# Output when last run (November 2026, torch 2.13, transformers 5.23):
#   as booted: the parts add up to another number, more than 0.1 beside the logit difference
#   in compatibility mode: the parts add up to the logit difference, within 0.001
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "torch==2.13.0"
"$folder/venv/bin/pip" install -q "transformer-lens==4.3.0" "transformers==5.23.0"
HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - "$folder" <<'PYTHON'
import sys

import torch
from tokenizers import Tokenizer, models
from transformer_lens.model_bridge import TransformerBridge
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

torch.manual_seed(0)
folder = f"{sys.argv[1]}/llama"
sizes = dict(hidden_size=32, intermediate_size=64, num_attention_heads=4, num_key_value_heads=4, vocab_size=50)
llama = LlamaForCausalLM(LlamaConfig(num_hidden_layers=2, initializer_range=0.3, **sizes))
for name, weight in llama.named_parameters():
    if "norm" in name:
        weight.data = 2 * torch.rand(weight.shape)
llama.save_pretrained(folder)
words = Tokenizer(models.WordLevel({"<s>": 0, "a": 1}, "<s>"))
PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<s>", eos_token="<s>", unk_token="<s>").save_pretrained(folder)
tokens, gaps = torch.randint(0, 50, (1, 6)), {}
for said in ("as booted", "in compatibility mode"):
    model = TransformerBridge.boot_transformers(folder, device="cpu")
    if said != "as booted":
        model.enable_compatibility_mode()
    with torch.no_grad():
        logits, cache = model.run_with_cache(tokens)
        parts = cache.decompose_resid(layer=-1, pos_slice=-1)
        added = cache.logit_attrs(parts, tokens=7, incorrect_tokens=9, pos_slice=-1).sum().item()
    truth = (logits[0, -1, 7] - logits[0, -1, 9]).item()
    gaps[said] = abs(added - truth)
    print(f"{said}: {len(parts)} parts add up to {added:.3f}, the logit difference is {truth:.3f}")
assert gaps["in compatibility mode"] < 1e-3, "the parts do not add up where the norm is folded"
assert gaps["as booted"] > 0.1, "transformer-lens has changed: attributions are right on a model as booted"
PYTHON
