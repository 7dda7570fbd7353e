"""A model that is linear from its first residual stream on: attention is the even mean over earlier positions, MLPs write nothing, norms
only subtract the mean (their epsilon drowns the variance). On it effects add up, and first-order estimates are exact."""

import torch
from made_models import CONFIGS
from transformers import GPT2LMHeadModel

from workbench.model.model import load_model


def linear_model(tokenizer):
    torch.manual_seed(0)
    config = CONFIGS["gpt2"].__class__(**(CONFIGS["gpt2"].to_dict() | {"layer_norm_epsilon": 1e14}))
    hf_model = GPT2LMHeadModel(config).double().eval()
    d_model = config.n_embd
    with torch.no_grad():
        for name, weight in hf_model.named_parameters():
            weight += 0.1 * torch.randn_like(weight)
            if ".ln_" in name and name.endswith("weight"):
                weight.fill_(1e7)
            if "mlp.c_proj" in name:
                weight.zero_()
            if "c_attn" in name:
                weight[..., : 2 * d_model] = 0.0  # no query, no key: every score is 0
    return load_model(hf_model, tokenizer=tokenizer)
