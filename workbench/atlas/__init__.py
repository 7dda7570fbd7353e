"""The atlas: a bundled small world with an answer key. Its model was trained on generated texts in which every token's concepts are known.

bench = atlas.load()                      model, SAEs, labels from the answer key: a Workbench
atlas.questions(held_out=True)            questions that need several steps, with the steps
atlas.texts(seed, n)                      texts that training never drew
atlas.concepts(text)                      what is in play at each token of such a text
"""

from pathlib import Path
from typing import TYPE_CHECKING

from workbench.atlas.corpus import texts
from workbench.atlas.questions import Question, questions
from workbench.atlas.text import Text

if TYPE_CHECKING:
    from workbench.bench import Workbench

__all__ = ["Question", "Text", "concepts", "load", "questions", "texts"]
WEIGHTS = Path(__file__).parent / "weights"


def concepts(text: Text) -> list[frozenset[str]]:
    """What is in play at each token of a generated text, start token left out: a name's concepts from the token that completes it to the
    text's end.

    Raises ValueError for a string of your own: the answer key knows what it wrote, `atlas.texts` and the prompts of `atlas.questions`.
    """
    if not isinstance(text, Text):
        raise ValueError(
            f"{str(text)[:60]!r} is not a text of the atlas: the answer key knows atlas.texts(…) and the prompts of atlas.questions()"
        )
    from tokenizers import Tokenizer

    encoding = Tokenizer.from_file(str(WEIGHTS / "model" / "tokenizer.json")).encode(str(text))
    return text.concepts_at([end for _, end in encoding.offsets])


def load(device: str = "cpu") -> "Workbench":
    """The bundled model with its SAEs, the features' labels and their top examples: a Workbench, in seconds and offline."""
    import json

    from workbench.atlas.build import DEFAULT_SAE, SAES
    from workbench.bench import Workbench
    from workbench.features.examples import Examples
    from workbench.model import load_model
    from workbench.sae.sae import SAE

    model = load_model(WEIGHTS / "model", device=device)
    saes = {recipe.name: SAE.load(WEIGHTS / f"sae_{recipe.name}", device) for recipe in SAES}
    labels = json.loads((WEIGHTS / f"sae_{DEFAULT_SAE}" / "labels.json").read_text())
    return Workbench(
        model=model,
        sae=saes[DEFAULT_SAE],
        name="atlas",
        labels={int(feature): label for feature, label in labels.items()},
        examples=Examples(model, saes[DEFAULT_SAE], texts(seed=2, n=2000)),
        saes=saes,
    )
