"""workbench check: is this model read rightly here, and does this SAE fit it? The first thing to run on a model of one's own."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from workbench.cli.options import StartToken, shell_words, start_of
from workbench.files import checked_file

if TYPE_CHECKING:
    from workbench.checks.report import CheckReport

STYLES = {"ok": "green", "note": "blue", "warning": "bold yellow", "error": "bold red"}


def check(
    model: Annotated[str, typer.Argument(help="A hub name, a local folder, or the bundled atlas.")],
    sae: Annotated[str | None, typer.Option(help="The SAE: a folder, a hub id; for the atlas, one of its widths.")] = None,
    start_token: StartToken = None,
    texts: Annotated[
        str | None, typer.Option(help="A file or folder of text of the model's own kind, or hub:NAME. [default: a small English text]")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of the table.")] = False,
    html: Annotated[Path | None, typer.Option(help="Also write one page that opens offline.")] = None,
    device: Annotated[str, typer.Option(help="Where to compute, such as cuda.")] = "cpu",
) -> None:
    """Is this model read rightly here: start token, hook points, effects, cache, speed? Does an SAE fit? Exit status 1 for an error."""
    if html is not None:
        checked_file(html)
    from workbench.checks.check import check as look

    report = look(model, sae, texts, device=device, start_token=start_of(start_token))
    if html is not None:
        report.to_html(html)
    if as_json:
        rows = report.table.to_dict("records")
        print(json.dumps({"model": report.name, "verdict": report.verdict, "rows": rows}, ensure_ascii=False, indent=1))
    else:
        print_table(report)
        if html is not None:
            print(f"Written: {html}")
    if report.verdict == "error":
        raise typer.Exit(1)


def print_table(report: "CheckReport") -> None:
    """The rows, each with its figure and what it means under its name, at the width of the terminal."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from widgets.marks import visible

    console = Console()
    console.print(Text(f"Check of {visible(report.name)}: {report.summary()}", style="bold"))
    table = Table(box=box.SIMPLE, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for row in report.table.to_dict("records"):
        meaning = shell_words(visible(row["meaning"]), ("start_token", "texts"))
        said = Text.assemble((visible(row["figure"]), "bold"), "\n" if row["figure"] else "", meaning)
        table.add_row(Text(row["verdict"], style=STYLES[row["verdict"]]), Text(row["check"]), said)
    console.print(table)
