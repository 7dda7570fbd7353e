"""workbench score: how well features read what they are called and how much they write it, saved beside an index. workbench minimal: which
of them a behavior needs, and which must be silent."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench.cli.observe import numbers
from workbench.cli.options import Index, StartToken, start_of, with_index
from workbench.files import check_outside, checked_file, read_json, read_text, write_text

if TYPE_CHECKING:
    from workbench.circuits.evidence.minimal import MinimalSets
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
        from widgets.html.pages import result_page

        write_text(html, result_page("What features read and write", scores))
    print(scores_json(scores, top) if as_json else scores.said(top))


def scores_json(scores: "FeatureScores", top: int) -> str:
    """Every feature's scores as JSON, numbers in full, and those in which the two part."""
    tables = {"rows": scores.table, "apart": scores.apart(top)}
    rows = {name: json.loads(table.to_json(orient="records", double_precision=15)) for name, table in tables.items()}
    return json.dumps({"verdict": scores.verdict, "basis": scores.basis, "notes": list(scores.notes)} | rows, ensure_ascii=False, indent=1)


def minimal(
    present: Annotated[Path, typer.Argument(help="A file of prompts with the behavior, one a line; or .json, a list of strings.")],
    absent: Annotated[Path, typer.Argument(help="Likewise prompts without it, which differ as little as can be.")],
    *,
    answer: Annotated[str, typer.Option(help='The token that is the behavior, usually with a leading space: " Tallahassee".')],
    baseline: Annotated[
        str | None, typer.Option(help="The token that is said without it; left out, the mean logit of the vocabulary.")
    ] = None,
    keep: Annotated[Path | None, typer.Option(help="More prompts, whose answers should stay.")] = None,
    at_last: Annotated[bool, typer.Option("--at-last", help="Hold features at each prompt's last token only.")] = False,
    most: Annotated[int, typer.Option(min=1, help="Features of a set.")] = 20,
    spare: Annotated[float, typer.Option(help="The share of other answers that may change.")] = 0.02,
    seed: Annotated[int, typer.Option(help="Of the halves and the random sets.")] = 0,
    model: Annotated[str, typer.Option(help="A hub name, a local folder, or the bundled atlas.")] = "atlas",
    sae: Annotated[str | None, typer.Option(help="The SAE's folder; for the atlas, one of its widths.")] = None,
    index: Index = None,
    start_token: StartToken = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    html: Annotated[Path | None, typer.Option(help="Also write a page that opens offline.")] = None,
    device: Annotated[str, typer.Option(help="Where to compute, such as cuda.")] = "cpu",
) -> None:
    """Find the smallest sets of features that take a behavior away from many prompts, and that give it; on prompts held out."""
    if html is not None:
        checked_file(html)
    texts = {name: _prompts(file) if file else [] for name, file in (("present", present), ("absent", absent), ("keep", keep))}
    from workbench.benches import load
    from workbench.circuits.evidence.minimal import minimal_sets
    from workbench.circuits.metrics import logit_diff

    bench = with_index(load(model, sae, device=device, start_token=start_of(start_token)), index)
    options: dict[str, Any] = dict(keep=texts["keep"], at_last=at_last, most=most, spare=spare, seed=seed)
    found = minimal_sets(bench, texts["present"], texts["absent"], logit_diff(answer, baseline), **options)
    if html is not None:
        from widgets.html.pages import result_page

        write_text(html, result_page("Which features a behavior needs", found))
    print(minimal_json(found) if as_json else repr(found))


def _prompts(file: Path) -> list[str]:
    """Those of a file. Raises ValueError where it holds something else than prompts."""
    if file.suffix != ".json":
        return [line for line in read_text(file).splitlines() if line.strip()]
    found = read_json(file)
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise ValueError(f'{file} holds {json.dumps(found)[:40]}; expected a list of strings, ["…", "…"]')
    return found


def minimal_json(found: "MinimalSets") -> str:
    """Both sets as JSON, numbers in full, with what random sets do."""
    sets = {}
    for name, each in (("removing", found.removing), ("giving", found.giving)):
        rows = json.loads(each.table.to_json(orient="records", double_precision=15))
        sets[name] = {"rows": rows, "random": each.random.tolist(), "n_held_out": each.n_held_out, "n_others": each.n_others}
    return json.dumps({"verdict": found.verdict, "notes": list(found.notes)} | sets, ensure_ascii=False, indent=1)
