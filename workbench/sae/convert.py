"""From any library's files to SAELens', sparsify's or circuit-tracer's.

an SAE                        → SAELens' folder
a transcoder                  → SAELens' folder, or sparsify's (TopK)
a set, one transcoder a layer → circuit-tracer's folder, or a folder of SAELens' or sparsify's folders
a cross-layer transcoder      → circuit-tracer's folder
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workbench.sae.config import SAEError
from workbench.sae.cross_layer import CrossLayerTranscoder
from workbench.sae.formats.circuit_tracer_write import write_set
from workbench.sae.formats.sparsify import write_sparsify
from workbench.sae.formats.transcoders import is_cross_layer
from workbench.sae.sae import SAE
from workbench.sae.stack import is_set
from workbench.sae.transcoder import Transcoder, is_transcoder, load_transcoders

LAYOUTS = ("saelens", "sparsify", "circuit-tracer")


def convert(source: str | Path, out: Path, layout: str | None = None, **given: Any) -> Any:
    """Write what source holds to the folder out, and return it. layout: one of LAYOUTS; by default SAELens' folder (circuit-tracer's for
    cross-layer transcoders). given: what the files leave out, as SAE.load and Transcoder.load take it. Raises SAEError, before anything
    is written."""
    if layout not in (None, *LAYOUTS):
        raise SAEError(f"layout {layout!r} is unknown; there is {', '.join(LAYOUTS)}")
    given = {name: value for name, value in given.items() if value is not None}
    folder = Path(source).expanduser()
    if folder.exists() and is_cross_layer(folder):
        _only(layout, ("circuit-tracer",), "a cross-layer transcoder")
        clt = CrossLayerTranscoder.load(source, **_taken(given, ("model_name",)))
        clt.save(out)
        return clt
    if is_set(folder):
        return _convert_set(load_transcoders(source, **_taken(given, ("model_name",))), out, layout or "saelens")
    if is_transcoder(source) or "hook_name_out" in given:
        transcoder = Transcoder.load(source, **_taken(given, ("hook_name_in", "hook_name_out", "model_name")))
        _only(layout, ("saelens", "sparsify"), "one transcoder")
        write_sparsify(transcoder, out) if layout == "sparsify" else transcoder.save(out)
        return transcoder
    _only(layout, ("saelens",), "an SAE")
    sae = SAE.load(source, **given)
    sae.save(out)
    return sae


def _convert_set(transcoders: Mapping[int, Transcoder], out: Path, layout: str) -> Mapping[int, Transcoder]:
    if layout == "circuit-tracer":
        write_set(transcoders, out)
        return transcoders
    for layer, transcoder in transcoders.items():
        own = out / (f"layers.{layer}.mlp" if layout == "sparsify" else f"layer_{layer}")
        write_sparsify(transcoder, own) if layout == "sparsify" else transcoder.save(own)
    return transcoders


def _only(layout: str | None, possible: tuple[str, ...], what: str) -> None:
    if layout not in (None, *possible):
        raise SAEError(f"{layout} does not hold {what}; {' or '.join(possible)} does")


def _taken(given: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """Raises SAEError for what cannot be given here."""
    if extra := sorted(set(given) - set(names)):
        raise SAEError(f"{', '.join(extra)} cannot be given for transcoders; {', '.join(names)} can")
    return dict(given)
