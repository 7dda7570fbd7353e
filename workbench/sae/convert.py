"""From any library's files to SAELens', sparsify's or circuit-tracer's.

an SAE                        → SAELens' folder
a transcoder                  → SAELens' folder, or sparsify's (TopK)
a set, one transcoder a layer → circuit-tracer's folder, or a folder of SAELens' or sparsify's folders
a cross-layer transcoder      → circuit-tracer's folder
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from workbench.files import checked_folder, clear_partial_folder, whole_folder
from workbench.sae.config import SAEError
from workbench.sae.cross_layer import CrossLayerTranscoder
from workbench.sae.formats.circuit_tracer_write import write_set
from workbench.sae.formats.sparsify import MODULE, folder_of, write_sparsify
from workbench.sae.formats.transcoders import is_cross_layer
from workbench.sae.sae import SAE
from workbench.sae.stack import is_set
from workbench.sae.transcoder import Transcoder, is_transcoder, load_transcoders

LAYOUTS = ("saelens", "sparsify", "circuit-tracer")


def convert(source: str | Path, out: Path, layout: str | None = None, **given: Any) -> Any:
    """Write what source holds to the folder out, and return it. layout: one of LAYOUTS; by default SAELens' folder (circuit-tracer's for
    cross-layer transcoders). given: what the files leave out, as SAE.load and Transcoder.load take it. The folder is whole or absent.
    Raises SAEError, before anything is written, and for a folder that already holds something."""
    out = checked_folder(out)
    if out.is_dir() and any(out.iterdir()):
        clear_partial_folder(out)
        raise SAEError(f"{out} already holds something: name another folder")
    if layout not in (None, *LAYOUTS):
        raise SAEError(f"layout {layout!r} is unknown; there is {', '.join(LAYOUTS)}")
    given = {name: value for name, value in given.items() if value is not None}
    folder = Path(source).expanduser()
    if folder.exists() and is_cross_layer(folder):
        _only(layout, ("circuit-tracer",), "a cross-layer transcoder")
        clt = CrossLayerTranscoder.load(source, **_taken(given, ("model_name",)))
        _write(out, clt.save)
        return clt
    if is_set(folder):
        transcoders = load_transcoders(source, **_taken(given, ("model_name",)))
        _write(out, lambda folder: _write_set(transcoders, folder, layout or "saelens"))
        return transcoders
    if is_transcoder(source) or "hook_name_out" in given:
        transcoder = Transcoder.load(source, **_taken(given, ("hook_name_in", "hook_name_out", "model_name")))
        _only(layout, ("saelens", "sparsify"), "one transcoder")
        if layout == "sparsify" and MODULE.fullmatch(out.name) and out.name != (right := folder_of(transcoder)):
            raise SAEError(f"a folder called {out.name} would say that it stands there; this transcoder's is called {right}")
        _write(out, lambda folder: write_sparsify(transcoder, folder) if layout == "sparsify" else transcoder.save(folder))
        return transcoder
    _only(layout, ("saelens",), "an SAE")
    sae = SAE.load(source, **given)
    _write(out, sae.save)
    return sae


def _write(out: Path, save: Callable[[Path], Any]) -> None:
    with whole_folder(out) as folder:
        save(folder)


def _write_set(transcoders: Mapping[int, Transcoder], out: Path, layout: str) -> None:
    if layout == "circuit-tracer":
        write_set(transcoders, out)
        return
    for layer, transcoder in transcoders.items():
        own = out / (folder_of(transcoder) if layout == "sparsify" else f"layer_{layer}")
        write_sparsify(transcoder, own) if layout == "sparsify" else transcoder.save(own)


def _only(layout: str | None, possible: tuple[str, ...], what: str) -> None:
    if layout not in (None, *possible):
        raise SAEError(f"{layout} does not hold {what}; {' or '.join(possible)} does")


def _taken(given: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """Raises SAEError for what cannot be given here."""
    if extra := sorted(set(given) - set(names)):
        raise SAEError(f"{', '.join(extra)} cannot be given for transcoders; {', '.join(names)} can")
    return dict(given)
