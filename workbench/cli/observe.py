"""workbench index, page: what every feature is active on, read once from a corpus; and the pages of features, which need no model."""

import re
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

    from workbench.features.page import Label
    from workbench.sae.sae import SAE

N_ATLAS_TEXTS, ATLAS_SEED = 20_000, 2


def index(
    out: Annotated[Path, typer.Argument(help="The folder to write. The same command goes on where a build in it was stopped.")],
    model: Annotated[str, typer.Option(help="A hub name, a local folder, or the bundled atlas.")] = "atlas",
    sae: Annotated[list[str] | None, typer.Option(help="A folder or hub id; several times for several. [default: the atlas's own]")] = None,
    texts: Annotated[str | None, typer.Option(help="A file or folder of text, or hub:NAME; the atlas has its own.")] = None,
    n_texts: Annotated[int | None, typer.Option(min=1, help="Read so many texts. [default: all; of the atlas's 20,000]")] = None,
    workers: Annotated[int, typer.Option(min=0, help="Ray processes that read side by side; 0: this process.")] = 0,
    device: Annotated[str, typer.Option(help="Where to compute, such as cuda.")] = "cpu",
) -> None:
    """Read texts once for all features of the SAEs: when each is active, its examples, what it promotes, what is near it."""
    if model != "atlas" and not (sae and texts):
        raise ValueError(f"--model {model} needs --sae and --texts (only the atlas brings its own)")
    from workbench import atlas
    from workbench.features.index import build_index
    from workbench.texts import read_texts

    source = islice(read_texts(texts), n_texts) if texts else atlas.texts(ATLAS_SEED, n_texts or N_ATLAS_TEXTS)
    bridge, saes = parts(model, sae or [], device)
    built = build_index(bridge, saes, source, out, workers=workers)
    for name in saes:
        if model == "atlas" and (labels := atlas_labels(name)):
            built.with_sae(name).save_labels(labels)
    print(type(built).open(out))


def page(
    folder: Annotated[Path, typer.Argument(help="The index.")],
    features: Annotated[list[str] | None, typer.Argument(help="Numbers and ranges: 3 77 100-199. [default: all that are active]")] = None,
    sae: Annotated[str | None, typer.Option(help="Which of the index's SAEs. [default: the first]")] = None,
    html: Annotated[Path | None, typer.Option(help="Write a folder of pages with a search box, which opens offline.")] = None,
) -> None:
    """What is known of features: as text, or as a folder of pages."""
    if html is None and not features:
        raise ValueError("which features? Name some, or give --html FOLDER for the pages of all")
    from workbench.features.index import FeatureIndex

    known = FeatureIndex.open(folder, sae)
    table = known.table
    chosen = numbers(features) if features else table["feature"][table["n_active"] > 0].tolist()
    if html is None:
        print("\n\n".join(map(repr, known.features(chosen))))
    else:
        print(f"Written: {known.to_html(chosen, html)}")


def parts(model: str, names: list[str], device: str) -> "tuple[TransformerBridge, dict[str, SAE]]":
    """The model, and its SAEs by name: a folder's own name, or the atlas's name for a width."""
    from workbench import atlas
    from workbench.model import load_model
    from workbench.sae.sae import SAE

    if model == "atlas":
        bench = atlas.load(device=device)
        known = dict(bench.saes)
        wanted = names or list(known)
        return bench.model, {Path(name).name: known[name] if name in known else SAE.load(name, device) for name in wanted}
    saes = {re.split(r"[/:]", name.rstrip("/"))[-1]: SAE.load(name, device) for name in names}
    if len(saes) < len(names):
        raise ValueError(f"two of the SAEs have the same name, {', '.join(saes)}: rename a folder")
    return load_model(model, device=device), saes


def atlas_labels(name: str) -> "dict[int, Label]":
    """What the answer key says of one of the atlas's SAEs; nothing for another one."""
    from workbench import atlas
    from workbench.atlas.build import known_labels

    file = atlas.WEIGHTS / f"sae_{name}" / "labels.json"
    return known_labels(file) if file.is_file() else {}


def numbers(features: list[str]) -> list[int]:
    """["3", "100-102"] → [3, 100, 101, 102]"""
    found: list[int] = []
    for text in features:
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", text)
        if match is None or int(match[2] or match[1]) < int(match[1]):
            raise ValueError(f"{text!r} is no feature: expected a number such as 3, or a range such as 100-199")
        found += range(int(match[1]), int(match[2] or match[1]) + 1)
    return list(dict.fromkeys(found))
