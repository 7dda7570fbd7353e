"""Evidence to label features by: texts of three nouns, windows around a cat or a dog, an SAE whose features are rare in the texts."""

from made_models import random_sae

from workbench.activations.stream import harvest, padded
from workbench.features.index.parts import Example
from workbench.features.labels.meanings import Evidence
from workbench.sae.sae import SAE

NOUNS = "cat dog mat sat ran on the and".split()
TEXTS = [f"{a} {b} {c}" for a in NOUNS for b in NOUNS for c in NOUNS]


def window(text: str, peak: int, *, number: int = 0, after: float = 0.0) -> Example:
    tokens = [" " + word for word in text.split()]
    return Example(tokens, [2.0 if i == peak else after if i > peak else 0.0 for i in range(len(tokens))], peak, number, (False, False))


CATS = [window(f"a {word} cat sat", 2, number=i) for i, word in enumerate("big old red fat shy sad wet dry".split())]
DOGS = [window(f"a {word} dog ran", 2, number=9 + i) for i, word in enumerate("big old red fat shy sad wet dry".split())]
EVIDENCE = Evidence(7, CATS[:4], CATS[4:], DOGS[:4], DOGS[4:])


def rare_sae(model) -> SAE:
    """Each of its features is active at one in 25 tokens of TEXTS."""
    sae = random_sae()
    tokens, is_text = padded(model, TEXTS)
    x = harvest(model, tokens, sae.cfg.hook_name)[is_text]
    sae.b_enc.data = -(x @ sae.W_enc).quantile(0.96, dim=0)
    return sae
