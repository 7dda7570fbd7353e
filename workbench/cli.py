"""The notebook's verbs from a shell: rank, atlas build, lab.

Exit status 0; 2 with one line that says what was wrong; 130 after Ctrl-C. Results go to stdout, progress to stderr. torch and
transformer_lens take seconds to import, so each command imports what it needs when it runs.
"""

import importlib.metadata
import json
import math
import subprocess
import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from workbench.circuits.ranking import FeatureRanking

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
atlas_app = typer.Typer(help="The bundled small world: its texts, model and SAEs.")
app.add_typer(atlas_app, name="atlas")


class Order(StrEnum):
    effect = "effect"
    attribution = "attribution"
    activation = "activation"


def main(args: Sequence[str] | None = None) -> int:
    """Run one command; the exit status. What a user typed wrong becomes one line on stderr, a bug keeps its traceback.

    typer makes Ctrl-C the exit status 130.
    """
    args = sys.argv[1:] if args is None else args
    try:
        return app(args or ["--help"], standalone_mode=False) or 0
    except typer.TyperException as error:
        message = error.format_message()
    except (ValueError, OSError) as error:
        message = str(error)
    print("workbench: " + " ".join(message.split()), file=sys.stderr)
    return 2


def print_version(is_asked: bool) -> bool:
    if is_asked:
        print(f"workbench {importlib.metadata.version('circuit-workbench')}")
        raise typer.Exit
    return is_asked


@app.callback()
def root(
    version: Annotated[bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """From a prompt to the features behind its answer."""


@app.command()
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


@atlas_app.command("build")
def build_atlas(
    out: Annotated[Path, typer.Argument(help="The folder to write; a build that was cut off goes on where it stopped.")],
    device: Annotated[str, typer.Option(help="Where to train, such as cuda.")] = "cpu",
) -> None:
    """Rebuild the atlas from its seed: texts, tokenizer, model, SAEs."""
    from workbench.atlas.build import build

    build(out, device=device)


@app.command()
def lab(
    notebook: Annotated[Path | None, typer.Argument(help="[default: the first of notebooks/, else this folder]")] = None,
) -> None:
    """Open JupyterLab on a notebook."""
    if notebook is not None and not notebook.exists():
        raise ValueError(f"{notebook} does not exist")
    start = notebook or min(Path("notebooks").glob("*.ipynb"), default=Path("."))
    raise typer.Exit(subprocess.call([sys.executable, "-m", "jupyterlab", str(start)]))
