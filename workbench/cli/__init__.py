"""How is what a notebook does said from a shell? A module for each group of commands.

Exit status 0; 2 with one line that says what was wrong; 130 after Ctrl-C. Results go to stdout, progress to stderr. torch and
transformer_lens take seconds to import, so each command imports what it needs when it runs.
"""

import importlib.metadata
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from workbench.cli.act import rank, steer
from workbench.cli.atlas import atlas_app
from workbench.cli.lab import lab
from workbench.cli.label import label
from workbench.cli.learn import convert, evaluate, plan, scaling, train
from workbench.cli.observe import find, index, page

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
app.command()(rank)
app.command()(steer)
app.command()(train)
app.command()(evaluate)
app.command()(convert)
app.command()(scaling)
app.command()(plan)
app.command()(index)
app.command()(find)
app.command()(page)
app.command()(label)
app.command()(lab)
app.add_typer(atlas_app, name="atlas")


def main(args: Sequence[str] | None = None) -> int:
    """Run one command; the exit status. What a user typed wrong becomes one line on stderr, a bug keeps its traceback.

    typer makes Ctrl-C the exit status 130.
    """
    args = sys.argv[1:] if args is None else args
    try:
        return app(args or ["--help"], standalone_mode=False) or 0
    except typer.TyperException as error:
        message = error.format_message() + commands(error)
    except (ValueError, OSError) as error:
        message = str(error)
    print("workbench: " + " ".join(message.split()), file=sys.stderr)
    return 2


def commands(error: typer.TyperException) -> str:
    """Those that there are, where the error is of a command that is none."""
    if not error.format_message().startswith(("No such command", "Missing command")):
        return ""
    context: Any = getattr(error, "ctx")  # noqa: B009 typer's own class has none, those two have
    return f" The commands are {', '.join(context.command.list_commands(context))}."


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
