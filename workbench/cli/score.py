"""workbench score: how well features read what they are called and how much they write it, saved beside an index."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench.cli.observe import numbers
from workbench.cli.options import StartToken, start_of
from workbench.files import check_outside, checked_file, write_text

if TYPE_CHECKING:
    from workbench.circuits.steering.scores import FeatureScores

N_TEXTS, ATLAS_SEED = 6000, 11  # of the atlas: apart from those that its labels and its index were made from


def score(
    folder: Annotated[Path, typer.Argument(help="The index.")],
    features: Annotated[
        list[str] | None, typer.Argument(help="Numbers and ranges: 3 77 100-199. [default: all that can be scored]")
    ] = None,
    sae: Annotated[str | None, typer.Option(help="The SAE's folder; for the atlas, one of its widths.")] = None,
    model: Annotated[str, typer.Option(help="A hub name, a local folder, or the bundled atlas.")] = "atlas",
    n_texts: Annotated[int, typer.Option(min=1, help="Texts of the atlas that its answer key is asked about.")] = N_TEXTS,
    top: Annotated[int, typer.Option(min=1, help="How many features, of each kind in which the scores part, are printed.")] = 10,
    by_tokens: Annotated[bool, typer.Option("--by-tokens", help="By what directions promote, even where there is an answer key.")] = False,
    start_token: StartToken = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    html: Annotated[Path | None, typer.Option(help="Also write a page that opens offline.")] = None,
    device: Annotated[str, typer.Option(help="Where to compute, such as cuda.")] = "cpu",
) -> None:
    """Score features twice: how well each reads what it is called, how much clamping it writes that. Pages and searches show it after."""
    check_outside(folder)
    if html is not None:
        checked_file(html)
    from dataclasses import replace

    from workbench import atlas
    from workbench.benches import load
    from workbench.circuits.steering.scores import score_features
    from workbench.features.index.index import FeatureIndex

    bench: Any = load(model, sae, device=device, start_token=start_of(start_token))
    known = FeatureIndex.open(folder).of(bench.model, bench.sae)
    chosen = numbers(features, known.d_sae) if features else None
    has_key = model == "atlas" and not by_tokens
    key: Any = (atlas.texts(ATLAS_SEED, n_texts), atlas.Text.concepts_at) if has_key else ()
    scores = score_features(replace(bench, index=known, labels=known.label_texts() or bench.labels), *key, features=chosen)
    known.save_scores(scores.scores, scores.basis)
    if html is not None:
        write_text(html, scores_page(scores))
    print(scores_json(scores, top) if as_json else scores.said(top))


def scores_json(scores: "FeatureScores", top: int) -> str:
    """Every feature's scores as JSON, numbers in full, and those in which the two part."""
    tables = {"rows": scores.table, "apart": scores.apart(top)}
    rows = {name: json.loads(table.to_json(orient="records", double_precision=15)) for name, table in tables.items()}
    return json.dumps({"verdict": scores.verdict, "basis": scores.basis, "notes": list(scores.notes)} | rows, ensure_ascii=False, indent=1)


def scores_page(scores: "FeatureScores") -> str:
    """The same as one page that opens offline."""
    head = '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>What features read and write</title>'
    style = "<style>body{font-family:system-ui,sans-serif;margin:24px}:root{color-scheme:light dark}</style>"
    return f"{head}{style}</head><body>{scores._repr_html_()}</body></html>"
