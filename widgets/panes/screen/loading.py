"""A bench as code: what makes it again in another notebook, from where its parts came."""

from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from workbench.bench import NoSAE
from workbench.benches import BENCHES
from workbench.model.start import start_token
from workbench.sae.cross_layer import CrossLayerTranscoder
from workbench.sae.transcoder import Transcoder

FEW_LABELS = 20
PARTS = ("index", "examples", "saes", "layers", "transcoders")  # of a bench that was made by hand, where it has them


def loading(bench: Any) -> list[str]:
    """Code that loads a bench from where its parts came from; what was made in this session is taken by its name there."""
    name, start = _source_of(bench), start_token(bench.model)
    layer, device = _layer_of(bench), str(bench.model.cfg.device)
    said = [f", device={device!r}"] if device != "cpu" else []
    said += [f", start_token={start.text or None!r}"] if start.is_given else []
    if name == "atlas" and layer is not None:
        return [f"bench = wb.load('atlas'{''.join(said)}).with_transcoder({layer})"]
    if isinstance(bench.sae, NoSAE):
        return [
            f"bench = wb.load({repr(name) if name else 'model'}, transcoders=transcoders{''.join(said)})  # transcoders as you made them"
        ]
    source = repr(bench.sae_name) if name == "atlas" else repr(bench.sae.source) if bench.sae.source else ""
    if not name or not source:
        given = {"model": "model", "sae": "sae" if layer is None else f"transcoders[{layer}]"}
        given |= {part: part for part in PARTS if getattr(bench, part) and (part != "examples" or bench.index is None)}
        parts = ", ".join([*(f"{part}={by}" for part, by in given.items()), *filter(None, [_labels(bench)])])
        return [f"bench = wb.Workbench({parts})  # as you made them: they came from no file"]
    lines = [f"bench = wb.load({name!r}, sae={source}{''.join(said)})"]
    if bench.saes and name not in BENCHES and (len(bench.saes) > 1 or bench.sae_name not in bench.saes):
        where = f", device={device!r}" if device != "cpu" else ""
        lines.append("saes = {")
        lines += [f"    {called!r}: {_loaded(sae, where)}" for called, sae in bench.saes.items()]
        lines.append("}")
        looked_through = f"sae=saes[{bench.sae_name!r}], " if bench.sae_name in bench.saes else ""
        lines.append(f"bench = dataclasses.replace(bench, {looked_through}saes=saes)")
    if bench.index is not None and name != "atlas":
        lines.append(f"index = wb.FeatureIndex.open({str(bench.index.folder)!r}, {bench.index.sae_name!r})")
        lines.append("bench = dataclasses.replace(bench, index=index)")
    if name not in BENCHES and (labels := _labels(bench)):
        lines.append(f"bench = dataclasses.replace(bench, {labels})" + "  # as you gave them" * (labels == "labels=labels"))
    if own := [] if name in BENCHES else [part for part in ("layers", "transcoders") if getattr(bench, part)]:
        lines.append(f"bench = dataclasses.replace(bench, {', '.join(f'{part}={part}' for part in own)})  # as you made them")
    return lines


def _labels(bench: Any) -> str:
    """The labels that it was given, as an argument: the index's, a few in full, else by the name that they have in the notebook."""
    known, index = bench.labels.known, bench.index
    if index is not None and known and _are_of(index, known):
        return "labels=index.label_texts()"
    return "" if not known else f"labels={_in_full(known)!r}" if len(known) <= FEW_LABELS else "labels=labels"


def _are_of(index: Any, known: Any) -> bool:
    """Are these labels the index's? As far as some of them tell: this is asked at every step, and there may be a hundred thousand."""
    labels, some = index.labels(), islice(known.items(), FEW_LABELS)
    told = [(labels.get(feature), text) for feature, text in some]
    others = [(label, text) for label, text in told if label is None or not label.is_human]  # a person's stands over what the index says
    return len(known) <= len(labels) and bool(others) and all(str(label) == text for label, text in others)


def _in_full(labels: Mapping[Any, Any]) -> dict[int, str]:
    """As Python writes them, NumPy's numbers too."""
    return {int(feature): str(text) for feature, text in labels.items()}


def _loaded(sae: Any, where: str) -> str:
    """An entry of the dict of SAEs."""
    if sae.source:
        return f"wb.{type(sae).__name__}.load({sae.source!r}{where}),"
    return "sae,  # as you made it: it came from no file"


def _layer_of(bench: Any) -> int | None:
    """Of a bench that looks through the transcoder of a layer: which."""
    if not isinstance(bench.sae, Transcoder) or isinstance(bench.transcoders, CrossLayerTranscoder):
        return None
    layer = int(bench.sae.reads.split(".")[1])
    return layer if layer in bench.transcoders and bench.transcoders[layer] is bench.sae else None


def _source_of(bench: Any) -> str:
    """What loads its model: a bundled name, the folder of its weights, or the hub's name. A title that a person gave it loads nothing."""
    if bench.name in BENCHES:
        return bench.name
    source = str(getattr(bench.model.original_model.config, "_name_or_path", ""))
    return source if source and (bench.name or Path(source).is_dir()) else ""


def script(bench: Any, *steps: str, needs: tuple[str, ...] = ()) -> str:
    """Code that loads the bench and takes the steps. needs: imports beside the workbench's own."""
    lines = loading(bench)
    needed = ["import dataclasses"] if any("dataclasses" in line for line in lines) else []
    return "\n".join([*needed, "import workbench as wb", *needs, "", *lines, *filter(None, steps)])
