#!/bin/sh
# circuit-tracer 0.5.0: a cross-layer transcoder with a skip loses it on saving, and is read back without a word as one that has none.
#
# CrossLayerTranscoder(skip_connection=True) has W_skip (n_layers, d, d), and its reconstruction adds x @ W_skip. to_safetensors writes
# W_enc, b_enc, b_dec, threshold and W_dec of each layer; load_clt reads those. The output that comes back differs by all that the skip
# carried. Transcoders of one layer keep theirs.
#
# Beside it: load_gemma_scope_2_clt, given the files of all n layers, stacks those before the last one only and then fails on the widths.
#
# Output when last run (November 2026, torch 2.13, transformer-lens 3.9.0):
#   one layer, with a skip: read back, outputs differ by 0.00
#   cross-layer, with a skip: read back, W_skip is None, outputs differ by more than 0.1
#   Gemma Scope 2's three layers: RuntimeError
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "circuit-tracer==0.5.0" "torch==2.13.0" "transformer-lens==3.9.0"
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import sys

import torch
from circuit_tracer.transcoder.cross_layer_transcoder import CrossLayerTranscoder, load_clt, load_gemma_scope_2_clt
from circuit_tracer.transcoder.single_layer_transcoder import SingleLayerTranscoder, load_relu_transcoder
from safetensors.torch import save_file

torch.manual_seed(0)
folder, n, d, wide, cpu = sys.argv[1], 3, 8, 24, torch.device("cpu")
where = dict(dtype=torch.float32, device=cpu)
x = torch.randn(n, 10, d)


def filled(module):
    for weight in module.parameters():
        weight.data = torch.randn(weight.shape) / 2
    return module.requires_grad_(False)


one = filled(SingleLayerTranscoder(d, wide, torch.relu, 0, skip_connection=True, **where))
one.to_safetensors(f"{folder}/one.safetensors")
again = load_relu_transcoder(f"{folder}/one.safetensors", 0, lazy_encoder=False, lazy_decoder=False, **where).requires_grad_(False)
gap_one = (one(x[0]) - again(x[0])).abs().max().item()
print(f"one layer, with a skip: read back, outputs differ by {gap_one:.2f}")

clt = filled(CrossLayerTranscoder(n, wide, d, skip_connection=True, lazy_decoder=False, **where))
clt.to_safetensors(f"{folder}/clt")
again = load_clt(f"{folder}/clt", lazy_decoder=False, **where).requires_grad_(False)
acts = clt.encode(x).to_sparse()
gap = (clt.decode(acts, x) - again.decode(acts, x)).abs().max().item()
print(f"cross-layer, with a skip: read back, W_skip is {again.W_skip}, outputs differ by {gap:.2f}")

shapes = {"w_enc": (d, wide), "w_dec": (wide, n, d), "b_enc": (wide,), "b_dec": (d,), "threshold": (wide,)}
files = {}
for layer in range(n):
    files[layer] = f"{folder}/params_layer_{layer}.safetensors"
    save_file({name: torch.rand(shape) for name, shape in shapes.items()}, files[layer])
try:
    load_gemma_scope_2_clt(files, **where)
    said = "read"
except RuntimeError as error:
    said = type(error).__name__
print(f"Gemma Scope 2's three layers: {said}")
assert gap_one < 1e-5, "a transcoder of one layer lost something"
assert again.W_skip is None and gap > 0.1, "circuit-tracer has changed: a cross-layer skip comes back"
assert said == "RuntimeError", "circuit-tracer has changed: it reads all layers of Gemma Scope 2's"
PYTHON
