"""workbench label: what features mean, by token rules or by a language model, written beside an index."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workbench.cli.observe import numbers

if TYPE_CHECKING:
    from workbench.features.labels.labels import Labeller

ANSWERS = "answers.jsonl"  # in the index's folder: what a language model said is paid for once


class By(StrEnum):
    """Who proposes labels."""

    tokens = "tokens"
    llm = "llm"


class Api(StrEnum):
    """The protocol that an endpoint speaks."""

    openai = "openai"
    anthropic = "anthropic"


def label(
    folder: Annotated[Path, typer.Argument(help="The index.")],
    features: Annotated[list[str] | None, typer.Argument(help="Numbers and ranges: 3 77 100-199. [default: all that are active]")] = None,
    sae: Annotated[str | None, typer.Option(help="Which of the index's SAEs. [default: the first]")] = None,
    by: Annotated[By, typer.Option(help="Rules over tokens, offline; or a language model.")] = By.tokens,
    model: Annotated[str, typer.Option(help="The language model, as its endpoint calls it.")] = "",
    api: Annotated[Api, typer.Option(help="The protocol that the endpoint speaks.")] = Api.openai,
    url: Annotated[str | None, typer.Option(help="The endpoint, if not the protocol's own: http://localhost:8000/v1")] = None,
    key: Annotated[str | None, typer.Option(help="The environment variable that holds the key. [default: the protocol's]")] = None,
    per_minute: Annotated[float, typer.Option(help="Requests a minute, at most.")] = 300,
    price: Annotated[tuple[float, float] | None, typer.Option(help="Dollars for a million tokens in and out: what it will cost.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Go on, at that cost.")] = False,
) -> None:
    """Label features from half of their examples, score the labels on the other half. A person's labels stay. Stopped? The same goes on."""
    from workbench.features.index.index import FeatureIndex
    from workbench.features.labels.labels import gathered, label_features
    from workbench.features.labels.llm import Endpoint
    from workbench.features.labels.model_labels import ModelLabeller, cost
    from workbench.features.labels.token_labels import TokenLabeller

    index = FeatureIndex.open(folder, sae)
    chosen = numbers(features, index.d_sae) if features else index.table["feature"][index.table["n_active"] > 0].tolist()
    labeller: Labeller = TokenLabeller()
    if by == By.llm:
        if not model:
            raise ValueError("--by llm needs --model: the name of a language model, as its endpoint calls it")
        labeller = ModelLabeller(Endpoint(model, folder / ANSWERS, api.value, url, key, per_minute))
        estimate = cost(gathered(index, chosen), len(chosen))
        print(f"{estimate} at most" + (f"; {estimate.dollars(*price):,.2f} dollars" if price else ""))
        if not yes:
            print("Nothing is sent yet: --yes goes on.")
            return
    print(label_features(index, labeller, chosen))
