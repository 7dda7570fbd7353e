"""An SAE of each architecture with random weights whose decoder rows have norms of their own."""

import pytest
import torch

from workbench.sae.config import SAEConfig
from workbench.sae.sae import SAE

HOOK = "blocks.1.hook_resid_pre"


def random_sae(architecture: str = "standard", k: int | None = None, centers_input: bool = False) -> SAE:
    torch.manual_seed(0)
    cfg = SAEConfig(8, 32, HOOK, "tiny", architecture=architecture, k=k, centers_input=centers_input, metadata={"l0": 4.5})
    made = SAE(cfg)
    for name, weight in made.named_parameters():
        torch.nn.init.uniform_(weight, 0, 0.6) if name == "threshold" else torch.nn.init.normal_(weight, std=0.5)
    return made.requires_grad_(False)


ARCHITECTURES = [("standard", None), ("topk", 3), ("batchtopk", 3), ("jumprelu", None)]
every_architecture = pytest.mark.parametrize(("architecture", "k"), ARCHITECTURES, ids=[name for name, _ in ARCHITECTURES])
