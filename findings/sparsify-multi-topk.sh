#!/bin/sh
# sparsify 1.3.3: with multi_topk, what a sparse coder encodes is not what its output is made of.
#
# encode(x) gives the k largest features of a token, and decode() of them is one reconstruction. forward(x) of the same coder gives
# another: `latent_acts` and `sae_out` are overwritten by the 4 k largest, which only its additional loss should see. Whoever takes
# features from encode and the output from forward, as an evaluation does, mixes two dictionaries. A coder saved with multi_topk: false
# gives one reconstruction both ways.
#
# Output when last run (November 2026, torch 2.13):
#   multi_topk False: features of encode 4, of forward 4; outputs differ by 0.00
#   multi_topk True:  features of encode 4, of forward 16; outputs differ by more than 0.1
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "eai-sparsify==1.3.3" "torch==2.13.0"
"$folder/venv/bin/python" - <<'PYTHON'
import torch
from sparsify import SparseCoder, SparseCoderConfig

torch.manual_seed(0)
x, seen = torch.randn(20, 8), {}
for multi in (False, True):
    coder = SparseCoder(8, SparseCoderConfig(k=4, num_latents=48, multi_topk=multi))
    with torch.no_grad():
        encoded, out = coder.encode(x), coder(x)
        gap = (coder.decode(encoded.top_acts, encoded.top_indices) - out.sae_out).abs().max().item()
    seen[multi] = (encoded.top_acts.shape[-1], out.latent_acts.shape[-1], gap)
    print(f"multi_topk {multi}: features of encode {seen[multi][0]}, of forward {seen[multi][1]}; outputs differ by {gap:.2f}")
assert seen[False][:2] == (4, 4) and seen[False][2] < 1e-5, "a plain coder gave two reconstructions"
assert seen[True][:2] == (4, 16) and seen[True][2] > 0.1, "sparsify has changed: encode and forward agree"
PYTHON
