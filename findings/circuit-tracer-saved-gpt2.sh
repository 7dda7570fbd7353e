#!/bin/sh
# circuit-tracer 0.5.0 cannot load a GPT-2 that its own environment's transformers has saved.
#
# pip resolves it to TransformerLens 3.2.1 and transformers 4.57.3. TransformerLens asks GPT-2's configuration for n_ctx, which transformers
# has given up: only the files published with GPT-2 in 2019 still say it. What save_pretrained writes today does not, and loading ends in
# an AttributeError, also when the loaded model itself is handed over (hf_model=…). With n_ctx written into config.json it loads.
#
# A folder is taken for a model only if it has the model's registered name and is in the working directory: here ./gpt2.
#
# Output when last run (November 2026, torch 2.13):
#   as saved by transformers 4.57.3: AttributeError: 'GPT2Config' object has no attribute 'n_ctx'
#   the same, given the model: AttributeError: 'GPT2Config' object has no attribute 'n_ctx'
#   with n_ctx written into config.json: loaded, 2 layers
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "torch==2.13.0"
"$folder/venv/bin/pip" install -q "circuit-tracer==0.5.0" "transformer-lens==3.2.1" "transformers==4.57.3"
cd "$folder"
HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - <<'PYTHON'
import json
from pathlib import Path

import torch
import transformers
from circuit_tracer import ReplacementModel
from circuit_tracer.transcoder.single_layer_transcoder import SingleLayerTranscoder, TranscoderSet
from tokenizers import Tokenizer, models
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

cpu, config = torch.device("cpu"), GPT2Config(n_layer=2, n_embd=32, n_head=4, vocab_size=8, n_positions=16)
model, words = GPT2LMHeadModel(config), Tokenizer(models.WordLevel({"<s>": 0, "a": 1}, "<s>"))
model.save_pretrained("gpt2")
PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<s>", eos_token="<s>", unk_token="<s>").save_pretrained("gpt2")


def loaded(**given):
    one = [SingleLayerTranscoder(32, 64, torch.relu, layer, device=cpu, dtype=torch.float32) for layer in range(2)]
    transcoders = TranscoderSet(dict(enumerate(one)), "mlp.hook_in", "mlp.hook_out")
    try:
        found = ReplacementModel.from_pretrained_and_transcoders("gpt2", transcoders, device=cpu, **given)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return f"loaded, {found.cfg.n_layers} layers"


saved, given = loaded(), loaded(hf_model=model)
path = Path("gpt2/config.json")
path.write_text(json.dumps(json.loads(path.read_text()) | {"n_ctx": 16}))
with_n_ctx = loaded()
print(f"as saved by transformers {transformers.__version__}: {saved}")
print(f"the same, given the model: {given}")
print(f"with n_ctx written into config.json: {with_n_ctx}")
assert "n_ctx" in saved and "n_ctx" in given, "it loads what transformers saves now"
assert with_n_ctx == "loaded, 2 layers", "n_ctx was not all that was missing"
PYTHON
