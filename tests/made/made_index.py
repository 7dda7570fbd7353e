"""Texts, SAEs and the files of an index, for tests of building and of reading one."""

import random
from pathlib import Path

from made_models import random_sae

from workbench.sae.sae import SAE

WORDS = "the cat sat on mat and dog ran to".split()


def made_texts(n: int = 60, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=rng.randint(1, 40))) for _ in range(n)]


TEXTS = made_texts()


def made_saes() -> dict[str, SAE]:
    """Two that read block 1, the second of half the features; features 5 and 6 of the first are never active, feature 7 is rare."""
    wide, narrow = random_sae(), random_sae()
    wide.b_enc[5:7] = -1e3
    wide.b_enc[7] -= 3
    small = SAE(type(wide.cfg)(wide.cfg.d_in, 32, wide.cfg.hook_name))
    for name, weight in small.named_parameters():
        source = getattr(narrow, name)
        weight.data = source[:, :32].clone() if name == "W_enc" else source[:32].clone()
    return {"wide": wide, "narrow": small.requires_grad_(False)}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
