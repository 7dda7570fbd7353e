"""How is what a notebook does said from a shell? A module for each group of commands.

Exit status 0; 1 where `check` finds an error; 2 with one line that says what was wrong; 130 after Ctrl-C. Results go to stdout, progress
to stderr. torch and transformer_lens take seconds to import, so each command imports what it needs when it runs.
"""

import importlib.metadata
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from workbench.cli.act import rank, steer
from workbench.cli.atlas import atlas_app
from workbench.cli.check import check
from workbench.cli.circuit import circuit
from workbench.cli.diff import diff
from workbench.cli.doctor import doctor
from workbench.cli.lab import lab
from workbench.cli.label import label
from workbench.cli.learn import plan, scaling, train
from workbench.cli.observe import find, index, page
from workbench.cli.options import shell_words
from workbench.cli.sae import convert, evaluate
from workbench.cli.score import minimal, score

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
app.command()(check)
app.command()(rank)
app.command()(steer)
app.command()(circuit)
app.command()(train)
app.command()(evaluate)
app.command()(convert)
app.command()(scaling)
app.command()(plan)
app.command()(index)
app.command()(find)
app.command()(page)
app.command()(diff)
app.command()(label)
app.command()(score)
app.command()(minimal)
app.command()(lab)
app.command()(doctor)
app.add_typer(atlas_app, name="atlas")


def main(args: Sequence[str] | None = None) -> int:
    """Run one command; the exit status. What a user typed wrong becomes one line on stderr, so does what a library raises; a bug of ours
    keeps its traceback.

    typer makes Ctrl-C the exit status 130.
    """
    args = sys.argv[1:] if args is None else args
    try:
        return app(args or ["--help"], standalone_mode=False) or 0
    except typer.TyperException as error:
        message = error.format_message() + commands(error)
    except (ValueError, OSError) as error:
        message = shell_words(str(error), options(args))
    except Exception as error:
        if said := out_of_memory(error):
            message = said
        elif is_ours(error):
            raise
        else:
            message = f"{type(error).__name__}: {error}"
    print("workbench: " + " ".join(message.split()), file=sys.stderr)
    return 2


def out_of_memory(error: Exception) -> str:
    """What an allocator said, in words, where no command did; "" for other errors."""
    if not isinstance(error, RuntimeError | MemoryError):
        return ""
    from workbench.model.memory import broke_off, is_out_of_memory

    return f"this command {broke_off(error)}: less at once, or another machine" if is_out_of_memory(error) else ""


def is_ours(error: Exception) -> bool:
    """Does the last call before it that is this package's or a library's belong to this package?"""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        parts = Path(frame.filename).parts
        if {"workbench", "widgets"} & set(parts[-4:]):
            return True
        if "site-packages" in parts:
            return False
    return True


def options(args: Sequence[str]) -> list[str]:
    """The options of the command that was called, as Python spells them."""
    known: Any = getattr(typer.main.get_command(app), "commands", {})
    command = next((known[arg] for arg in args if arg in known), None)
    return [] if command is None else [param.name for param in command.params if param.param_type_name == "option"]


def commands(error: typer.TyperException) -> str:
    """Those that there are, where the error is of a command that is none."""
    if not error.format_message().startswith(("No such command", "Missing command")):
        return ""
    context: Any = getattr(error, "ctx")  # noqa: B009 typer's own class has none, those two have
    return f" The commands are {', '.join(context.command.list_commands(context))}."


def print_version(is_asked: bool) -> bool:
    """For --version: the version, and nothing else is done."""
    if is_asked:
        print(f"workbench {importlib.metadata.version('circuit-workbench')}")
        raise typer.Exit
    return is_asked


@app.callback()
def root(
    version: Annotated[bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """From a prompt to the features behind its answer."""
