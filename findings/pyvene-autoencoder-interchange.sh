#!/bin/sh
# pyvene 0.1.8: an interchange in an SAE's features exchanges only as many of them as the activation is wide, or a single one.
#
# JumpReLUAutoencoderIntervention(base, source) should put the source's features in place of the base's and decode. It swaps features
# [0, d) alone, d the width of the activation: of 16,384 features on 2,304 dimensions one in seven. AutoencoderIntervention swaps one
# feature, number d, and takes no notice of `subspaces`. Both say nothing, and the effect measured is too small. Below the SAE is exact
# (features relu(x) and relu(-x)), so that a full interchange is the source's activation, as VanillaIntervention gives it. JumpReLU's is
# full once set_interchange_dim(d_sae) is called.
#
# Beside it: NoiseIntervention(noise_level=3.0) adds noise of level 0.1346 as always: it looks for the argument under another name.
#
# Output when last run (November 2026, torch 2.13, transformers 4.57.3):
#   VanillaIntervention: 0.00 from the source's logits
#   JumpReLUAutoencoderIntervention: more than 0.05 from the source's logits; after set_interchange_dim(16) 0.00
#   AutoencoderIntervention: more than 0.05 from the source's logits; with feature 8 alone swapped 0.00 apart
#   NoiseIntervention, asked for 3.0: 0.1346
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "torch==2.13.0" "transformers==4.57.3" "numpy==2.4.6" "huggingface-hub==0.36.0" "fsspec==2025.3.0" "datasets==3.6.0" \
  "accelerate==1.10.0" "matplotlib==3.11.2" "plotnine==0.14.5" "ipywidgets==8.1.9"
"$folder/venv/bin/pip" install -q --no-deps "pyvene==0.1.8"
HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - <<'PYTHON'
import pyvene as pv
import torch
from transformers import GPT2Config, GPT2LMHeadModel

torch.manual_seed(0)
torch.set_grad_enabled(False)
d, d_sae = 8, 16
both = torch.cat([torch.eye(d), -torch.eye(d)])
exact = {"W_enc": both.T, "W_dec": both, "autoencoder.encoder.0.weight": both, "autoencoder.decoder.0.weight": both.T}
model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_embd=d, n_head=2, vocab_size=20, n_positions=16)).eval()
base, source = ({"input_ids": torch.tensor([ids])} for ids in ([1, 2, 3], [4, 5, 6]))
wanted = model(**source).logits[0, 2]


def put_in(kind, **sizes):
    at = [{"layer": 0, "component": "block_output", "intervention_type": kind, **sizes}]
    whole = pv.IntervenableModel(pv.IntervenableConfig(at), model)
    (one,) = whole.interventions.values()
    for name, weight in one.named_parameters():
        weight.copy_(exact.get(name, torch.zeros_like(weight)))
    return whole, one


def gap(whole):
    _, out = whole(base, [source], unit_locations={"sources->base": 2})
    return (out.logits[0, 2] - wanted).abs().max().item()


plain = gap(put_in(pv.VanillaIntervention)[0])
whole, one = put_in(pv.JumpReLUAutoencoderIntervention, low_rank_dimension=d_sae)
jump = gap(whole)
one.set_interchange_dim(d_sae)
full = gap(whole)
whole, one = put_in(pv.AutoencoderIntervention, latent_dim=d_sae)
auto, sae = gap(whole), one.autoencoder
x, y = torch.randn(1, 1, d), torch.randn(1, 1, d)
mixed = sae.encode(x)
mixed[..., d] = sae.encode(y)[..., d]
alone = (one(x.clone(), y.clone()) - sae.decode(mixed)).abs().max().item()
noise = pv.NoiseIntervention(embed_dim=d, noise_level=3.0).noise_level.item()
print(f"VanillaIntervention: {plain:.2f} from the source's logits")
print(f"JumpReLUAutoencoderIntervention: {jump:.2f} from the source's logits; after set_interchange_dim({d_sae}) {full:.2f}")
print(f"AutoencoderIntervention: {auto:.2f} from the source's logits; with feature {d} alone swapped {alone:.2f} apart")
print(f"NoiseIntervention, asked for 3.0: {noise:.4f}")
assert plain < 1e-5 and full < 1e-5, "the exact SAE is not exact here: this says nothing of pyvene"
assert jump > 0.05, "pyvene has changed: JumpReLU's interchange swaps all features"
assert auto > 0.05 and alone < 1e-5, "pyvene has changed: AutoencoderIntervention swaps more than one feature"
assert abs(noise - 0.1346) < 1e-4, "pyvene has changed: it hears noise_level"
PYTHON
