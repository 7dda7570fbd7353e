"""workbench circuit: which features make which, from the prompt to the answer, as words, JSON for the graph viewers, or a page."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench.cli.options import Insist
from workbench.files import checked_file

if TYPE_CHECKING:
    from workbench.sae.sae import SAE


class Edges(StrEnum):
    """How edges are found."""

    measured = "measured"
    attributed = "attributed"
    both = "both"


def circuit(
    prompt: Annotated[str, typer.Argument(help="What the model reads, up to the answer.")],
    answer: Annotated[
        str | None, typer.Option(help='One token, usually with a leading space: " Sacramento"; with transcoders, the likeliest by default.')
    ] = None,
    baseline: Annotated[str | None, typer.Option(help="The token to compare with; without it, the mean logit of the vocabulary.")] = None,
    model: Annotated[str, typer.Option(help="A hub name, a local folder, or the bundled atlas.")] = "atlas",
    layers: Annotated[
        Path | None, typer.Option(help="A folder that holds an SAE's folder for each hook point; the atlas brings its own.")
    ] = None,
    transcoders: Annotated[
        str | None,
        typer.Option(help="Transcoders, one a layer: a folder, a hub name, or atlas (its own). Direct effects between their features."),
    ] = None,
    edges: Annotated[Edges, typer.Option(help="Measure every edge, attribute it to first order, or both.")] = Edges.measured,
    features: Annotated[
        int | None, typer.Option(min=1, help="Keep so many features, of largest effect. [default: 30 in words, all in JSON]")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Read only so many features, of largest |attribution| or influence.")] = None,
    json: Annotated[Path | None, typer.Option("--json", help="Write the graph for the public attribution-graph viewers.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write one page that opens offline.")] = None,
    insist: Insist = False,
    device: Annotated[str, typer.Option(help="Where to compute, such as cuda.")] = "cpu",
) -> None:
    """Find the circuit behind an answer: tokens, features and the answer, and what each does to the next."""
    for path in (json, html):
        if path is not None:
            checked_file(path)
    from workbench.benches import load
    from workbench.circuits.metrics import logit_diff

    if answer is None and (transcoders is None or baseline is not None):
        raise ValueError('which answer? Give --answer " Sacramento", one token')
    metric = None if answer is None else logit_diff(answer, baseline)
    if transcoders is None:
        whole = _bench(model, layers, device).circuit(prompt, metric, str(edges), limit=limit, insist=insist)
        kept = whole.strongest(features or 30)
    else:
        if layers is not None or edges is not Edges.measured:
            raise ValueError("--transcoders has direct effects for edges: leave --layers and --edges out")
        is_own = model == "atlas" == transcoders
        bench = load(model, device=device) if is_own else load(model, transcoders=transcoders, device=device)
        whole = bench.circuit(prompt, metric, over="transcoders", limit=limit, insist=insist)
        kept = whole.prune(features=features or 30)
    if json is not None:
        (whole if features is None else kept).to_json(json)
    if html is not None:
        kept.to_html(html)
    _print(kept)
    for path in (json, html):
        if path is not None:
            print(f"Written: {path}")


def _bench(model: str, layers: Path | None, device: str) -> Any:
    from workbench.bench import Workbench
    from workbench.benches import load
    from workbench.model.model import load_model

    if layers is None:
        if model != "atlas":
            raise ValueError(
                "a circuit needs an SAE at two hook points or more: give --layers, a folder that holds an SAE's folder for each"
            )
        return load(model, device=device)
    saes = saes_in(layers, device)
    bridge = load("atlas", device=device).model if model == "atlas" else load_model(model, device=device)
    return Workbench(model=bridge, sae=next(iter(saes.values())), layers=saes, name=model)


def saes_in(folder: Path, device: str = "cpu") -> "dict[str, SAE]":
    """hook name → SAE, of every folder in this one. Raises ValueError where there are none, or two for one hook point."""
    from workbench.sae.sae import SAE

    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder: expected one that holds an SAE's folder for each hook point")
    found: dict[str, SAE] = {}
    for each in sorted(path for path in folder.iterdir() if path.is_dir()):
        sae = SAE.load(each, device)
        if sae.cfg.hook_name in found:
            raise ValueError(f"{folder} holds two SAEs for {sae.cfg.hook_name}; {each.name} is the second")
        found[sae.cfg.hook_name] = sae
    if len(found) < 2:
        raise ValueError(f"{folder} holds {len(found) or 'no'} SAE's folder: a circuit needs one for each of two hook points or more")
    return found


def _print(circuit: Any) -> None:
    from rich.console import Console
    from rich.text import Text

    from widgets.figures.circuit import node_words
    from widgets.marks import number, visible

    console = Console()
    words = {row["node"]: node_words(row) for row in circuit.nodes.to_dict("records")}
    rather = repr(visible(circuit.baseline)) if circuit.baseline else "the mean logit"
    console.print(Text(visible(circuit.prompt)))
    console.print(Text(f"Which features make {visible(circuit.answer)!r} rather than {rather}? Difference: {number(circuit.clean_metric)}"))
    if circuit.way == "direct":
        scores = circuit.scores
        console.print(
            Text(f"Direct effects; replacement {scores.replacement:.2f}, completeness {scores.completeness:.2f} of what is shown")
        )
    for note in circuit.notes:
        console.print(Text(visible(note)))
    for row in circuit.top(10).to_dict("records"):
        console.print(Text(f"\n{words[row['node']]}", style="bold"))
        for name, end, other in (("from", "target", "source"), ("to", "source", "target")):
            mine = circuit.edges[circuit.edges[end] == row["node"]]
            strongest = mine.loc[mine["weight"].abs().sort_values(ascending=False, kind="stable").index[:3]]
            for edge in strongest.to_dict("records"):
                console.print(Text(f"  {name:<4} {number(edge['weight']):>8}  {words[edge[other]]}"))
