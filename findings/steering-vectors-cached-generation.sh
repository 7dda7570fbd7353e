#!/bin/sh
# steering-vectors 0.12.2: min_token_index is counted anew in every call of the model, so generate() with its cache steers no new token.
#
# apply(model, min_token_index=n) should leave the first n tokens as they are and steer what follows. With the key-value cache, which
# generate() uses unless told not to, each new token comes alone and is number 0: none is steered, without a word. Steering "only what the
# model writes" (n = length of the prompt) gives the unsteered text at any multiplier; with use_cache=False it steers.
#
# Beside it: apply's token_indices, which its documentation offers, ends in an UnboundLocalError, as min_token_index is 0 if left out and
# both may not be given; only token_indices=… with min_token_index=None works.
#
# Output when last run (November 2026, torch 2.13, transformers 4.57.3):
#   with the cache: the unsteered text at multipliers 1, 10 and 100
#   without the cache: another text at multipliers 1, 10 and 100
#   from the first token on: one text, with the cache or without
#   token_indices alone: UnboundLocalError
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "torch==2.13.0" "transformers==4.57.3" "huggingface-hub==0.36.0" "scikit-learn==1.5.2" "numpy==1.26.4"
"$folder/venv/bin/pip" install -q --no-deps "steering-vectors==0.12.2"
HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - <<'PYTHON'
import torch
from steering_vectors import SteeringVector
from transformers import LlamaConfig, LlamaForCausalLM

torch.manual_seed(0)
sizes = dict(hidden_size=32, intermediate_size=64, num_attention_heads=4, num_key_value_heads=4, vocab_size=50)
model = LlamaForCausalLM(LlamaConfig(num_hidden_layers=3, max_position_embeddings=64, **sizes)).eval()
prompt, vector = torch.tensor([[1, 5, 7, 9, 11]]), SteeringVector({1: torch.randn(32)})


def written(use_cache=True):
    options = dict(max_new_tokens=12, do_sample=False, pad_token_id=0, eos_token_id=None, attention_mask=torch.ones_like(prompt))
    return model.generate(prompt, use_cache=use_cache, **options)[0, prompt.shape[1] :].tolist()


def steered(use_cache, multiplier, start):
    with vector.apply(model, multiplier=multiplier, min_token_index=start):
        return written(use_cache)


plain, times, after = written(), (1.0, 10.0, 100.0), prompt.shape[1]
with_cache = [steered(True, each, after) for each in times]
without = [steered(False, each, after) for each in times]
everywhere = [steered(cache, 10.0, 0) for cache in (True, False)]
print(f"unsteered:         {plain}\nwith the cache:    {with_cache}\nwithout the cache: {without}\nfrom the first on: {everywhere}")
try:
    with vector.apply(model, token_indices=slice(after, None)):
        model(prompt)
    said = "steered"
except Exception as error:
    said = type(error).__name__
print(f"token_indices alone: {said}")
assert everywhere[0] == everywhere[1] != plain, "the cache changes more than where steering begins"
assert all(each != plain for each in without), "the vector does not steer"
assert all(each == plain for each in with_cache), "steering-vectors has changed: new tokens are steered with the cache"
assert said == "UnboundLocalError", "steering-vectors has changed: apply takes token_indices alone"
PYTHON
