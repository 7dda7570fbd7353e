"""Find an SAE's files and read them without running a line of code that came with them.

    locate("folder" | "file" | "owner/repo:subfolder") → the file of weights and the JSON that describes it
    read_tensors(path)                                  → its tensors by name: .safetensors, .npz, torch's .pt with weights only

What is not such a file is said by what it looks like: a pointer of git-lfs, a web page, a pickle that would execute code, half a file.
A path that exists never touches the network; of a hub repository only the few files of one SAE are fetched.
"""

import pickle
import re
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import torch
from safetensors.torch import load_file

from workbench import files
from workbench.sae.config import CFG_FILE, WEIGHTS_FILE, SAEError

# In this order: where a folder holds several, the first one is the SAE (Gemma Scope 2 has examples.safetensors beside its weights).
WEIGHT_FILES = (WEIGHTS_FILE, "sae.safetensors", "params.safetensors", "params.npz", "ae.pt", "sae.pt", "final.safetensors")
CFG_FILES = (CFG_FILE, "config.json", "hyperparams.json")
SCALER_FILE, WHITENING_FILE = "activation_scaler.json", "activation_whitening.safetensors"
CIRCUIT_TRACER_FILE = "config.yaml"
BESIDE = (SCALER_FILE, WHITENING_FILE, CIRCUIT_TRACER_FILE)
NAMES = {"model_name", "lm_name", "hook_name", "hook_name_out", "hook_point", "hook_point_in", "hook_point_out", "architecture", "act_name"}
OBJECTS = ("metadata", "meta", "trainer")
NESTED = "checkpoints"  # where Llama Scope puts its weights
PICKLE, ZIP = b"\x80", b"PK\x03\x04"  # how they begin; torch's files and npz are zip archives
SUFFIXES = (".safetensors", ".npz", ".pt", ".pth", ".bin")
A_HUB_ID = re.compile(r"(?P<repo>[A-Za-z0-9][\w.-]*/[\w.-]+)(:(?P<subfolder>[\w.+:-]+(/[\w.+:-]+)*))?")


@dataclass(frozen=True)
class SAEFiles:
    """The files of one SAE: where its weights are, and what stands beside them."""

    weights: Path
    cfg: dict[str, Any]  # empty where there is none
    scaler: dict[str, Any]  # SAELens' own file for the scale of activations; mostly empty
    place: str = ""  # owner/repo/subfolder of the hub, or the path: what a repository's name tells where its files do not


def locate(source: str | Path) -> SAEFiles:
    """The files of one SAE. Raises SAEError, saying what was found instead."""
    path, place = Path(source).expanduser(), ""
    if not path.exists() and (address := hub_id(source)):
        path, place = fetch(*address), "/".join(part for part in address if part)
    weights = path if path.is_file() else _weights_in(path)
    folders = [weights.parent, weights.parent.parent] if weights.parent.name == NESTED else [weights.parent]
    own = weights.with_name(f"{weights.stem}_cfg.json")  # Connor Kissane's and Rob's, whose folders hold several
    cfg = own if own.is_file() else next((folder / name for folder in folders for name in CFG_FILES if (folder / name).is_file()), None)
    scaler = weights.parent / SCALER_FILE
    place = place or named_place(weights)
    return SAEFiles(weights, _named(read_json(cfg), cfg) if cfg else {}, read_json(scaler) if scaler.is_file() else {}, place)


def _named(cfg: dict[str, Any], path: Path) -> dict[str, Any]:
    """The same. Raises SAEError where something else stands for a name or for an object."""
    parts = [cfg, *(cfg.get(name) or {} for name in OBJECTS)]
    for said in parts:
        if not isinstance(said, dict) or not isinstance(said.get("model_from_pretrained_kwargs") or {}, dict):
            raise SAEError(f"{path} holds {str(said)[:60]!r} where an object is expected: {', '.join(OBJECTS)}")
        for name in NAMES & set(said):
            if not isinstance(said[name], str | None):
                raise SAEError(f"{path} says {name} {str(said[name])[:60]!r}; expected a name")
    return cfg


def hub_id(source: str | Path) -> tuple[str, str | None] | None:
    """("owner/repo", "subfolder" or None), if the text is such an address."""
    match = A_HUB_ID.fullmatch(source) if isinstance(source, str) else None
    return (match["repo"], match["subfolder"]) if match else None


def named_place(path: Path) -> str:
    """A path as text, with the hub's cache folders read as the repositories that they hold: models--google--x/snapshots/… → google/x/…"""
    return re.sub(r"models--([^/]+)--([^/]+)/snapshots/[^/]+", r"\1/\2", path.absolute().as_posix())


def _weights_in(folder: Path) -> Path:
    if not folder.is_dir():
        raise SAEError(f"{folder} is not an SAE: no such folder, and no hub id either (owner/repo or owner/repo:subfolder)")
    config = folder / CIRCUIT_TRACER_FILE
    if config.is_file() and "model_kind" in config.read_text(errors="replace"):
        which = "wb.CrossLayerTranscoder.load" if "cross_layer" in config.read_text(errors="replace") else "wb.load_transcoders"
        raise SAEError(f"{folder} holds circuit-tracer's transcoders of every layer, no SAE: {which} reads them")
    known = [folder / inner / name for name in WEIGHT_FILES for inner in ("", NESTED) if (folder / inner / name).is_file()]
    if known:
        return known[0]
    others = sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES and path.name not in BESIDE)
    if len(others) == 1:
        return others[0]
    there = ", ".join(sorted(path.name + "/" * path.is_dir() for path in folder.iterdir())[:8]) or "an empty folder"
    which = "several files of weights: name one of them" if others else f"none of {', '.join(WEIGHT_FILES)} is there"
    raise SAEError(f"{folder} is not an SAE: {which} (found: {there})")


def fetch(repo: str, subfolder: str | None) -> Path:
    """The folder or file of the local cache that holds one SAE of a hub repository; what is missing there is downloaded."""
    folder, _, name = (subfolder or "").rpartition("/")
    if name.endswith(SUFFIXES):
        beside = (f"{name.removesuffix(Path(name).suffix)}_cfg.json", *CFG_FILES, *BESIDE)
        path = fetch_all(repo, folder or None, (name, *beside)) / name
        if not path.is_file():
            raise SAEError(f"{repo} on the hub has no file {subfolder!r}")
        return path
    return fetch_all(repo, subfolder, (*WEIGHT_FILES, *CFG_FILES, *BESIDE, f"{NESTED}/final.safetensors"))


def fetch_all(repo: str, subfolder: str | None, names: Iterable[str]) -> Path:
    """The folder of the local cache that holds these files of a hub repository's folder; names may have a * in them."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    inside = f"{subfolder}/" if subfolder else ""
    try:
        folder = Path(snapshot_download(repo, allow_patterns=[f"{inside}{name}" for name in names])) / inside
    except RepositoryNotFoundError:
        raise SAEError(f"{repo!r} is neither a path here nor a repository on the hub (or it is private: log in)") from None
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        why = str(error).splitlines()[0] if isinstance(error, HfHubHTTPError) else "the hub cannot be reached and the cache has no copy"
        raise SAEError(f"{repo!r} is not a path here, and as a hub id it cannot be fetched: {why}") from None
    if not folder.is_dir():
        raise SAEError(f"{repo} on the hub has no folder {subfolder!r} with an SAE in it")
    return folder


def read_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """A file's tensors by name, and what else a torch file says by name. Raises SAEError for anything else, saying what it looks like."""
    with path.open("rb") as file:
        head = file.read(64)
    if path.suffix == ".safetensors":
        return _read_safetensors(path, head), {}
    if path.suffix == ".npz":
        return _read_npz(path, head), {}
    return _read_torch(path, head)


def _read_safetensors(path: Path, head: bytes) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except (safetensors.SafetensorError, OSError) as error:
        raise SAEError(f"{path} is truncated or not a safetensors file ({looks_like(head) or error})") from None


def _read_npz(path: Path, head: bytes) -> dict[str, torch.Tensor]:
    if not head.startswith(ZIP):  # numpy would take it for a pickle
        raise SAEError(f"{path} is not an npz file ({looks_like(head) or 'unknown content'})")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    except Exception as error:  # what a flipped byte makes numpy, zipfile and zlib raise is of a dozen kinds, tokenize's among them
        if "allow_pickle" in str(error):
            raise SAEError(f"{path} holds Python objects, not only numbers: refused, reading them could execute code") from None
        raise SAEError(f"{path} is truncated or damaged ({looks_like(head)})") from None


def _read_torch(path: Path, head: bytes) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
        changed = _changed_parts(path) if head.startswith(ZIP) else []
    except pickle.UnpicklingError as error:
        name = re.search(r"[Uu]nsupported (?:global: )?GLOBAL ([\w.]+)", str(error))
        if name or head.startswith(PICKLE):
            what = f" ({name[1]})" if name else ""
            raise SAEError(
                f"{path} is a pickle that would execute code{what}: refused; ask for tensors only, best as safetensors"
            ) from None
        raise SAEError(f"{path} is not a torch file ({looks_like(head) or 'unknown content'})") from None
    except Exception as error:  # of as many kinds
        why = looks_like(head) or " ".join(str(error).split())[:200] or type(error).__name__
        raise SAEError(f"{path} is truncated or not a torch file ({why})") from None
    if changed:
        raise SAEError(f"{path} is damaged: the CRC-32 of {', '.join(changed[:3])} in it is another")
    named = found if isinstance(found, dict) and all(isinstance(name, str) for name in found) else {}
    tensors = {name: value for name, value in named.items() if isinstance(value, torch.Tensor)}
    if not tensors:
        raise SAEError(f"{path} holds a {type(found).__name__}, expected tensors by name (a state_dict)")
    return tensors, {name: value for name, value in named.items() if name not in tensors}


def _changed_parts(path: Path) -> list[str]:
    """Those of a zip archive whose CRC-32 is another; torch does not look. Nothing where it is of all: torch can write files without."""
    changed = []
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            try:
                with archive.open(name) as part:
                    while part.read(1 << 20):
                        pass
            except (zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError):
                changed.append(name)
        return changed if len(changed) < len(archive.namelist()) else []


def read_json(path: Path) -> dict[str, Any]:
    """An object from a JSON file. Raises SAEError, naming the file, for anything else."""
    raw = files.read_json(path, SAEError)
    if not isinstance(raw, dict):
        raise SAEError(f"{path} holds a JSON {type(raw).__name__}, expected an object")
    return raw


def looks_like(head: bytes) -> str:
    """What a file's first bytes say it is; empty if nothing known."""
    known = {
        b"version https://git-lfs": "it looks like a git-lfs pointer: fetch the file itself with `git lfs pull`",
        b"<": "it looks like a web page or XML",
        b"{": "it looks like JSON",
        PICKLE: "it looks like a bare pickle",
        ZIP: "it begins as a zip archive does",
        b"\x93NUMPY": "it looks like a single numpy array",
    }
    if not head:
        return "the file is empty"
    return next((what for start, what in known.items() if head.startswith(start)), "")
