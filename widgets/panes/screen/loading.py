"""A bench as code: what makes it again in another notebook, from where its parts came."""

from pathlib import Path
from typing import Any

from workbench.model.start import start_token


def loading(bench: Any) -> list[str]:
    """Code that loads a bench from where its parts came from; what was made in this session is taken by its name there."""
    name, start = bench.name or _folder_of(bench.model), start_token(bench.model)
    source = repr(bench.sae_name) if name == "atlas" else repr(bench.sae.source) if bench.sae.source else ""
    if not name or not source:
        return ["bench = wb.Workbench(model=model, sae=sae)  # as you made them: they came from no file"]
    device = str(bench.model.cfg.device)
    said = [f", device={device!r}"] if device != "cpu" else []
    said += [f", start_token={start.text or None!r}"] if start.is_given else []
    lines = [f"bench = wb.load({name!r}, sae={source}{''.join(said)})"]
    if bench.index is not None and name != "atlas":
        labels = ", labels=index.label_texts()" if bench.labels else ""
        lines.append(f"index = wb.FeatureIndex.open({str(bench.index.folder)!r}, {bench.index.sae_name!r})")
        lines.append(f"bench = dataclasses.replace(bench, index=index{labels})")
    return lines


def _folder_of(model: Any) -> str:
    """Where its weights came from, if that is a folder here."""
    name = str(getattr(model.original_model.config, "_name_or_path", ""))
    return name if name and Path(name).is_dir() else ""


def script(bench: Any, *steps: str, needs: tuple[str, ...] = ()) -> str:
    """Code that loads the bench and takes the steps. needs: imports beside the workbench's own."""
    lines = loading(bench)
    needed = ["import dataclasses"] if "dataclasses" in lines[-1] else []
    return "\n".join([*needed, "import workbench as wb", *needs, "", *lines, *filter(None, steps)])
