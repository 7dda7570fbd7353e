"""workbench atlas: the bundled small world, rebuilt."""

from pathlib import Path
from typing import Annotated

import typer

atlas_app = typer.Typer(help="The bundled small world: its texts, model and SAEs.")


@atlas_app.command("build")
def build_atlas(
    out: Annotated[Path, typer.Argument(help="The folder to write; a build that was cut off goes on where it stopped.")],
    device: Annotated[str, typer.Option(help="Where to train, such as cuda.")] = "cpu",
) -> None:
    """Rebuild the atlas from its seed: texts, tokenizer, model, SAEs."""
    from workbench.atlas.build import build

    build(out, device=device)
