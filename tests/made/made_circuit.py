"""A small circuit on a random model: SAEs in which about half of the features fire, at three places of four blocks."""

import torch
from made_models import D_MODEL, D_SAE

from workbench.bench import Workbench
from workbench.sae.sae import SAE, SAEConfig

PLACES = ("blocks.1.hook_resid_pre", "blocks.2.hook_resid_pre", "blocks.3.hook_resid_post")
PROMPT = "the cat sat on the mat"


def sparse_sae(hook_name: str, seed: int, **options) -> SAE:
    """A dozen of its features fire at a token."""
    generator = torch.Generator().manual_seed(seed)
    sae = SAE(SAEConfig(D_MODEL, D_SAE, hook_name, **options))
    for weight in sae.parameters():
        weight.data = 0.3 * torch.randn(weight.shape, generator=generator)
    sae.b_enc.data -= 1.0
    return sae.requires_grad_(False)


def made_saes(places=PLACES, **options) -> dict[str, SAE]:
    return {name: sparse_sae(name, seed, **options) for seed, name in enumerate(places)}


def made_circuit_bench(model, places=PLACES, **options) -> Workbench:
    saes = made_saes(places, **options)
    return Workbench(model=model, sae=saes[places[0]], layers=saes, name="random")
