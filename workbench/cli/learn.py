"""workbench convert: sparse autoencoders from other libraries."""

from pathlib import Path
from typing import Annotated

import typer


def convert(
    source: Annotated[str, typer.Argument(help="A folder, a file or a hub id, owner/repo:subfolder, in any library's format.")],
    out: Annotated[Path, typer.Argument(help="The folder to write.")],
    hook_name: Annotated[str | None, typer.Option(help="Where the SAE reads, if its files do not say: blocks.6.hook_resid_post.")] = None,
    model_name: Annotated[str | None, typer.Option(help="The model it was trained on, if its files do not say.")] = None,
    scale: Annotated[
        float | None, typer.Option(help="The factor that training multiplied activations by, if its files do not say.")
    ] = None,
    centers_input: Annotated[bool | None, typer.Option(help="It was trained on a model whose weights were centered.")] = None,
) -> None:
    """Write an SAE of any library as SAELens' folder, reading raw activations and giving raw ones."""
    from workbench.sae.sae import CFG_FILE, SAE

    if (out / CFG_FILE).exists():
        raise ValueError(f"{out} already holds an SAE: name another folder")
    sae = SAE.load(source, hook_name=hook_name, model_name=model_name, scale=scale, centers_input=centers_input)
    sae.save(out)
    cfg = sae.cfg
    print(
        f"{out}: {cfg.d_sae:,} features of width {cfg.d_in:,}, {cfg.architecture}, at {cfg.hook_name} of {cfg.model_name or 'some model'}"
    )
