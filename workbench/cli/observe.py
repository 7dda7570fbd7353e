"""workbench index, find, page: what every feature is active on, read once from a corpus; searches; and pages, which need no model."""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench.cli.options import Insist, StartToken, shell_words, start_of, with_index
from workbench.files import checked_file, write_text

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

    from workbench.features.index.index import FeatureIndex
    from workbench.features.index.parts import Label
    from workbench.features.search.found import Found
    from workbench.sae.dictionary import Dictionary

N_ATLAS_TEXTS, ATLAS_SEED = 20_000, 2
ATLAS_INDEX = Path(__file__).parents[1] / "atlas" / "weights" / "index"  # spelled here: whoever asks the atlas itself waits for torch


def index(
    out: Annotated[Path, typer.Argument(help="The folder to write. The same command goes on where a build in it was stopped.")],
    model: Annotated[str, typer.Option(help="A hub name, a local folder, or the bundled atlas.")] = "atlas",
    sae: Annotated[list[str] | None, typer.Option(help="A folder or hub id; several times for several. [default: the atlas's own]")] = None,
    texts: Annotated[str | None, typer.Option(help="A file or folder of text, or hub:NAME; the atlas has its own.")] = None,
    n_texts: Annotated[int | None, typer.Option(min=1, help="Read so many texts. [default: all; of the atlas's 20,000]")] = None,
    workers: Annotated[int, typer.Option(min=0, help="Ray processes that read side by side; 0: this process.")] = 0,
    start_token: StartToken = None,
    insist: Insist = False,
    device: Annotated[str, typer.Option(help="Where to compute, such as cuda.")] = "cpu",
) -> None:
    """Read texts once for all features of the SAEs: when each is active, its examples, what it promotes, what is near it."""
    if model != "atlas" and not (sae and texts):
        raise ValueError(f"--model {model} needs --sae and --texts (only the atlas brings its own)")
    from workbench import atlas
    from workbench.activations.texts import read_texts
    from workbench.features.index.index import build_index

    source = islice(read_texts(texts), n_texts) if texts else atlas.texts(ATLAS_SEED, n_texts or N_ATLAS_TEXTS)
    bridge, saes = parts(model, sae or [], device, start_token)
    built = build_index(bridge, saes, source, out, workers=workers, insist=insist)
    for name in saes:
        if model == "atlas" and (labels := atlas_labels(name)):
            built.with_sae(name).save_labels(labels)
    print(type(built).open(out))


def find(
    positive: Annotated[list[str] | None, typer.Argument(help="Prompts that have what you look for.")] = None,
    without: Annotated[list[str], typer.Option(help="A prompt that lacks it; give it again for more.")] = [],  # noqa: B006
    token: Annotated[str | None, typer.Option(help="Instead: the features most active at this token of the one prompt.")] = None,
    near: Annotated[int | None, typer.Option(help="Instead: the features nearest to this one.")] = None,
    label: Annotated[str | None, typer.Option(help="Instead: the features whose label holds these words.")] = None,
    parted: Annotated[
        str | None, typer.Option(help="Instead: the features that read what they are called and do not write it (reads), or writes.")
    ] = None,
    classify: Annotated[bool, typer.Option(help="By a linear classifier instead of filters.")] = False,
    share: Annotated[float, typer.Option(help="Of the prompts that a feature has to be active on.")] = 0.75,
    margin: Annotated[float, typer.Option(help="Activation allowed without, as a share of the mean with; 0: silence.")] = 2.0,
    max_density: Annotated[float, typer.Option(help="Leave out what is active on a larger share of the index's tokens.")] = 0.1,
    last: Annotated[bool, typer.Option("--last", help="Only what features do at each prompt's last token counts.")] = False,
    top: Annotated[int, typer.Option(min=1, help="How many features.")] = 20,
    model: Annotated[str, typer.Option(help="A hub name, a local folder, or the bundled atlas.")] = "atlas",
    sae: Annotated[str | None, typer.Option(help="The SAE's folder; for the atlas, one of its widths.")] = None,
    index: Annotated[Path | None, typer.Option(help="An index of the SAE: densities, labels, a better score. [atlas: its own]")] = None,
    start_token: StartToken = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    html: Annotated[Path | None, typer.Option(help="Also write a page that opens offline.")] = None,
    insist: Insist = False,
    device: Annotated[str, typer.Option(help="Where to compute, such as cuda.")] = "cpu",
) -> None:
    """Find features: active on some prompts and silent on others, at a token, near another one, by label, by what they read and write."""
    prompts = positive or []
    if sum([bool(prompts), near is not None, label is not None, parted is not None]) != 1:
        raise ValueError("what to look for? Give prompts, or --near FEATURE, or --label WORDS, or --parted reads: one of the four")
    if token is not None and (len(prompts) != 1 or without):
        raise ValueError(f"--token {token!r} is of one prompt, and without others; there are {len(prompts) + len(without)}")
    if html is not None:
        checked_file(html)
    if model == "atlas" and sae is None and not prompts and near is None:  # an index says it all: no model, and so no seconds to wait
        from workbench.features.search.labeled import labeled_in
        from workbench.features.search.parted import parted_in

        of, known = (parted_in, parted) if label is None else (labeled_in, label)
        return show_found(of(known_index(index), str(known), top), as_json, html)
    from workbench.benches import load

    bench = with_index(load(model, sae, device=device, start_token=start_of(start_token)), index)
    if near is not None:
        found = bench.find_near(near, top=top)
    elif label is not None:
        found = bench.find_by_label(label, top=top)
    elif parted is not None:
        found = bench.find_parted(parted, top=top)
    elif token is not None:
        found = bench.find_at(prompts[0], token, top=top, insist=insist)
    elif classify:
        found = bench.find_by_classifier(prompts, without, top=top, insist=insist)
    else:
        filters: dict[str, Any] = dict(share=share, margin=margin, max_density=max_density, top=top)
        found = bench.find(prompts, without, **filters, at_last=last, insist=insist)
    show_found(replace(found, note=shell_words(found.note, ("share", "margin"))), as_json, html)


def known_index(folder: Path | None) -> "FeatureIndex":
    """The index in the folder, or the atlas's own, through the SAE that all commands take where none is named."""
    from workbench.features.index.index import FeatureIndex

    return FeatureIndex.open(ATLAS_INDEX, "2k") if folder is None else FeatureIndex.open(folder)


def show_found(found: "Found", as_json: bool, html: Path | None) -> None:
    """Printed, and written as a page where one is wanted."""
    if html is not None:
        from widgets.html.pages import result_page

        write_text(html, result_page("Features found", found))
    print(found_json(found) if as_json else found)


def found_json(found: "Found") -> str:
    """What a search found, as JSON: numbers in full, what was removed, one object a row."""
    rows = json.loads(found.table.to_json(orient="records", double_precision=15))
    about = {"wants": found.wants, "note": found.note, "removed": [each._asdict() for each in found.removed], "n_passed": found.n_passed}
    return json.dumps(about | {"rows": rows}, ensure_ascii=False, allow_nan=False, indent=1)


def page(
    folder: Annotated[Path, typer.Argument(help="The index.")],
    features: Annotated[list[str] | None, typer.Argument(help="Numbers and ranges: 3 77 100-199. [default: all that are active]")] = None,
    sae: Annotated[str | None, typer.Option(help="Which of the index's SAEs. [default: the first]")] = None,
    html: Annotated[Path | None, typer.Option(help="Write a folder of pages with a search box, which opens offline.")] = None,
) -> None:
    """What is known of features: as text, or as a folder of pages."""
    if html is None and not features:
        raise ValueError("which features? Name some, or give --html FOLDER for the pages of all")
    from workbench.features.index.index import FeatureIndex

    known = FeatureIndex.open(folder, sae)
    table = known.table
    chosen = numbers(features, known.d_sae) if features else table["feature"][table["n_active"] > 0].tolist()
    if html is None:
        print("\n\n".join(map(repr, known.features(chosen))))
    else:
        print(f"Written: {known.to_html(chosen, html)}")


def parts(
    model: str, names: list[str], device: str, start_token: str | None = None
) -> "tuple[TransformerBridge, Mapping[str, Dictionary]]":
    """The model, and its SAEs or transcoders by name: a folder's own name, or the atlas's name for a width."""
    from workbench import atlas
    from workbench.model.model import load_model
    from workbench.sae.transcoder import load_dictionary

    if model == "atlas":
        bench = atlas.load(device=device, start_token=start_of(start_token))
        known = {bench.sae_name: bench.sae, **bench.saes}  # the one that all commands take where none is named comes first
        wanted = names or list(known)
        return bench.model, {name if name in known else _name_of(name): known.get(name) or load_dictionary(name, device) for name in wanted}
    saes = {_name_of(name): load_dictionary(name, device) for name in names}
    if len(saes) < len(names):
        raise ValueError(f"two of the SAEs have the same name, {', '.join(saes)}: rename a folder")
    return load_model(model, device=device, start_token=start_of(start_token)), saes


def _name_of(source: str) -> str:
    """The name of a folder or hub id as a part of file names, which an index makes of it: `sae 1` is sae-1."""
    return re.sub(r"[^\w.-]+", "-", re.split(r"[/:]", source.rstrip("/"))[-1]).strip("-.") or "sae"


def atlas_labels(name: str) -> "dict[int, Label]":
    """What the answer key says of one of the atlas's SAEs; nothing for another one."""
    from workbench import atlas
    from workbench.atlas.build import known_labels

    file = atlas.WEIGHTS / f"sae_{name}" / "labels.json"
    return known_labels(file) if file.is_file() else {}


def numbers(features: list[str], d_sae: int) -> list[int]:
    """["3", "100-102"] → [3, 100, 101, 102]. Raises ValueError for what is no feature of an SAE of so many."""
    from workbench.sae.config import checked_feature

    found: list[int] = []
    for text in features:
        match = re.fullmatch(r"(\d{1,18})(?:-(\d{1,18}))?", text)
        if match is None or int(match[2] or match[1]) < int(match[1]):
            raise ValueError(f"{text!r} is no feature: expected a number such as 3, or a range such as 100-199")
        first, last = (checked_feature(int(number), d_sae) for number in (match[1], match[2] or match[1]))
        found += range(first, last + 1)
    return list(dict.fromkeys(found))
