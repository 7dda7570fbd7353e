"""workbench rank: the features behind an answer, as tables, JSON or a page."""

import json
import math
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from workbench.circuits.ranking import FeatureRanking


class Order(StrEnum):
    effect = "effect"
    attribution = "attribution"
    activation = "activation"


def rank(
    prompt: Annotated[str, typer.Argument(help="What the model reads, up to the answer.")],
    answer: Annotated[str, typer.Option(help='One token, usually with a leading space: " Sacramento".')],
    baseline: Annotated[str | None, typer.Option(help="The token to compare with; without it, the mean logit of the vocabulary.")] = None,
    model: Annotated[str, typer.Option(help="A hub name, a local folder, or the bundled atlas.")] = "atlas",
    sae: Annotated[str | None, typer.Option(help="The SAE's folder; for the atlas, one of its widths.")] = None,
    top: Annotated[int | None, typer.Option(min=1, help="How many rows. [default: 10 in a table, all in JSON]")] = None,
    by: Annotated[list[Order], typer.Option(help="The order; give it several times for several tables.")] = [Order.effect],  # noqa: B006
    ablate: Annotated[int | None, typer.Option(min=1, help="Measure only this many pairs, those of largest |attribution|.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    html: Annotated[Path | None, typer.Option(help="Also write one page that opens offline.")] = None,
    device: Annotated[str, typer.Option(help="Where to compute, such as cuda.")] = "cpu",
) -> None:
    """Rank the features behind an answer: by measured effect, attribution or activation."""
    if html is not None and not html.absolute().parent.is_dir():
        raise ValueError(f"--html {html}: the folder {html.absolute().parent} does not exist")
    from workbench.bench import load
    from workbench.circuits.metrics import logit_diff

    ranking = load(model, sae, device=device).rank(prompt, logit_diff(answer, baseline), ablate=ablate)
    if html is not None:
        ranking.to_html(html)
    if as_json:
        print(json.dumps(ranking_json(ranking, top, by[0]), ensure_ascii=False, allow_nan=False, indent=1))
        return
    print_tables(ranking, top or 10, by)
    if html is not None:
        print(f"\nWritten: {html}")


def ranking_json(ranking: "FeatureRanking", top: int | None, by: Order) -> dict[str, Any]:
    """The whole ranking as plain data; what was not measured is null."""
    rows = ranking.top(top or max(1, len(ranking.table)), by=by)
    about = ("prompt", "str_tokens", "answer", "baseline", "clean_metric", "model_name", "sae_name", "hook_name", "is_start_included")
    agreement = {name: None if math.isnan(value) else value for name, value in vars(ranking.agreement()).items()}
    facts = {name: getattr(ranking, name) for name in about}
    return facts | {"agreement": agreement, "rows": json.loads(rows.to_json(orient="records", double_precision=15))}


def print_tables(ranking: "FeatureRanking", top: int, orders: Sequence[Order]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from widgets.html import number, visible

    console = Console()
    rather = repr(ranking.baseline) if ranking.baseline else "the mean logit"
    console.print(Text(visible(ranking.prompt)))
    console.print(Text(f"Why {ranking.answer!r} rather than {rather}? Difference: {ranking.clean_metric:.2f}"))
    for order in orders:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for heading in ("", "feature", "token", *Order, "label"):
            is_text = heading in ("token", "label")
            table.add_column(heading, justify="left" if is_text else "right", no_wrap=heading != "label")
        for place, row in enumerate(ranking.top(top, by=order).to_dict("records"), start=1):
            numbers = (number(row["effect"]), number(row["attribution"]), number(row["activation"], is_signed=False))
            ranks = [row[f"{name}_rank"] for name in Order]  # no rank where the effect was not measured
            cells = [
                Text.assemble(value, (f" #{rank}" if isinstance(rank, int) else "", "dim"))
                for value, rank in zip(numbers, ranks, strict=True)
            ]
            token = Text(f"{visible(row['token'])} ({row['pos']})")
            table.add_row(str(place), str(row["feature"]), token, *cells, Text(visible(row["label"])))
        console.print(Text(f"\nThe {top} largest by {order}", style="bold"))
        console.print(table)
    console.print(Text(repr(ranking.agreement())))
