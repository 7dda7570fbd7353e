"""Activations kept on disk: harvest once, train often.

folder/00000.safetensors, 00001.…    bfloat16 (n, d_in), in the order in which the stream dealt them: already shuffled
folder/activations.json              the model, the hook point, the scale; every shard's name, size and SHA-256; written after each shard

A shard is complete or absent, and a writer that was stopped goes on where it stopped. A shard is checked when it is read.
Rounding to bfloat16 moves each number by at most 0.4 %.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load
from tqdm.auto import tqdm

from workbench.activations.stream import ActivationStream
from workbench.files import locked, made_folder, read_json, write_tensors, write_whole
from workbench.shapes import Activations

MANIFEST, FORMAT = "activations.json", 1


class ShardError(ValueError):
    """Activations on disk that cannot be used: no manifest, a missing, truncated or changed shard."""


@dataclass(frozen=True)
class Shard:
    """One file of activations, as the manifest names it; n_bytes and sha256 tell a damaged one."""

    file: str
    n_tokens: int
    n_bytes: int
    sha256: str


def write_shards(stream: ActivationStream, folder: str | Path, n_tokens: int, shard_tokens: int = 2**17) -> "ActivationShards":
    """Keep the next n_tokens of a stream (or all that there are), in shards of about shard_tokens. Called again after a stop, with a
    fresh stream over the same texts, it goes on after the last whole shard."""
    folder = made_folder(folder)
    with locked(folder):
        return _write_shards(stream, folder, n_tokens, shard_tokens)


def _write_shards(stream: ActivationStream, folder: Path, n_tokens: int, shard_tokens: int) -> "ActivationShards":
    about = {"format": FORMAT, "model_name": stream.model_name, "hook_name": stream.hook_name, "d_in": stream.d_in, "scale": stream.scale}
    about["start_token"] = stream.start_token
    shards: list[Shard] = []
    if (folder / MANIFEST).exists():
        before = _read_manifest(folder)
        others = [
            f"{name} {before[name]!r} there, {mine!r} here" for name, mine in about.items() if before.get(name, mine) != mine
        ]  # one of before has no start token
        if others:
            raise ShardError(f"{folder} holds other activations: {', '.join(others)}; name another folder")
        shards = _shards_of(before, folder)
        if "start_token" not in before:
            del about["start_token"]  # what led those texts nobody knows
        stream.seek(before["position"])
    n_written, batches = sum(shard.n_tokens for shard in shards), iter(stream)
    with tqdm(total=n_tokens, initial=n_written, desc="writing activations", unit="token", unit_scale=True, delay=2) as bar:
        while n_written < n_tokens and (x := _next_shard(batches, min(shard_tokens, n_tokens - n_written))) is not None:
            shards.append(_write_shard(folder / f"{len(shards):05}.safetensors", x))
            _write_manifest(folder, {**about, "position": stream.position(), "shards": [vars(shard) for shard in shards]})
            n_written += len(x)
            bar.update(len(x))
    return ActivationShards(folder, stream.batch)


def _next_shard(batches: Iterator[Activations], n_tokens: int) -> Activations | None:
    """Whole batches until there are n_tokens; None when there are no more."""
    parts, n = [], 0
    while n < n_tokens and (batch := next(batches, None)) is not None:
        parts.append(batch.to("cpu", torch.bfloat16))
        n += len(batch)
    return torch.cat(parts) if parts else None


def _write_shard(path: Path, x: Activations) -> Shard:
    write_whole(path, lambda partial: write_tensors(partial, {"activations": x}))
    return Shard(path.name, len(x), path.stat().st_size, _sha256(path.read_bytes()))


def _write_manifest(folder: Path, about: dict[str, Any]) -> None:
    write_whole(folder / MANIFEST, lambda path: path.write_text(json.dumps(about, indent=1) + "\n"))


class ActivationShards:
    """A stream read back: iterating yields raw activations (batch, d_in) in float32, in the order in which they were written.

    Raises ShardError, a ValueError, at once where a shard is missing or truncated, and when it is read where it was changed.
    """

    def __init__(self, folder: str | Path, batch: int = 2048, device: str | torch.device = "cpu"):
        self.folder, self.batch, self.device = Path(folder), batch, device
        about = _read_manifest(self.folder)
        self.model_name, self.hook_name = str(about["model_name"]), str(about["hook_name"])
        self.d_in, self.scale = int(about["d_in"]), float(about["scale"])
        self.start_token = about.get("start_token")  # None: not written down
        self.shards = _shards_of(about, self.folder)
        self.n_tokens, self._n_dealt = sum(shard.n_tokens for shard in self.shards), 0
        for shard in self.shards:
            _check_there(self.folder / shard.file, shard)
        if self.n_tokens < batch:
            raise ShardError(f"{self.folder} holds {self.n_tokens:,} tokens, fewer than one batch of {batch:,}")

    def __iter__(self) -> Iterator[Activations]:
        first = self._n_dealt * self.batch  # the next token; of its shard the part before it is left out
        rest = torch.zeros(0, self.d_in)
        for shard in self.shards:
            if first >= shard.n_tokens:
                first -= shard.n_tokens
                continue
            rest, first = torch.cat([rest, self._read(shard)[first:].float()]), 0
            while len(rest) >= self.batch:
                self._n_dealt += 1
                yield rest[: self.batch].to(self.device)
                rest = rest[self.batch :]

    def position(self) -> dict[str, int]:
        """Where the stream is, in a form that fits in a checkpoint."""
        return {"n_dealt": self._n_dealt, "batch_size": self.batch, "n_tokens": self.n_tokens}

    def seek(self, position: Mapping[str, int]) -> None:
        """Go on at a `position`, before iterating. Raises ValueError where it is of another stream."""
        here = self.position()
        others = [
            f"{name} {position.get(name)} there, {here[name]} here"
            for name in ("batch_size", "n_tokens")
            if position.get(name) != here[name]
        ]
        if others:
            raise ValueError(f"this position is of another stream: {', '.join(others)}")
        n_dealt, most = position.get("n_dealt"), self.n_tokens // self.batch
        if type(n_dealt) is not int or not 0 <= n_dealt <= most:
            raise ValueError(f"this is no position of these shards: n_dealt {n_dealt!r}, expected 0 to {most:,}")
        self._n_dealt = n_dealt

    def _read(self, shard: Shard) -> Activations:
        path = self.folder / shard.file
        _check_there(path, shard)
        content = path.read_bytes()
        if _sha256(content) != shard.sha256:
            raise ShardError(f"{path} is not the file that was written: its SHA-256 is another; write the shards anew")
        x = load(content).get("activations", torch.empty(0))
        if x.shape != (shard.n_tokens, self.d_in) or x.dtype != torch.bfloat16:
            raise ShardError(f"{path} holds {x.dtype} {tuple(x.shape)}, {MANIFEST} says bfloat16 {(shard.n_tokens, self.d_in)}")
        return x


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    if not path.is_file():
        there = ", ".join(sorted(other.name for other in folder.iterdir())[:8]) if folder.is_dir() else "no such folder"
        raise ShardError(f"{folder} holds no activations: {MANIFEST} is missing (found: {there or 'an empty folder'})")
    about = read_json(path, ShardError)
    if not isinstance(about, dict):
        raise ShardError(f"{path} holds a JSON {type(about).__name__}, expected an object")
    missing = {"format", "model_name", "hook_name", "d_in", "scale", "shards", "position"} - set(about)
    if missing or about["format"] != FORMAT:
        raise ShardError(
            f"{path} is not of this format ({FORMAT}): {'it lacks ' + ', '.join(sorted(missing)) if missing else about['format']}"
        )
    d_in, scale = about["d_in"], about["scale"]
    if type(d_in) is not int or d_in < 1 or not isinstance(scale, int | float) or not 0 < scale < 1e308:
        raise ShardError(f"{path} says d_in {d_in!r} and scale {scale!r}; expected numbers above 0")
    if not isinstance(about["position"], dict):
        raise ShardError(f"{path} says position {about['position']!r}; expected an object")
    return about


def _shards_of(about: dict[str, Any], folder: Path) -> list[Shard]:
    """Those that a manifest names. Raises ShardError where it does not name them so."""
    kinds = {field.name: field.type for field in fields(Shard)}
    listed: list[Any] = about["shards"] if isinstance(about["shards"], list) else [None]
    for each in listed:
        if not isinstance(each, dict) or {name: type(value) for name, value in each.items()} != kinds or each["n_tokens"] < 1:
            raise ShardError(f"{folder / MANIFEST} lists {str(each)[:80]} as a shard; expected {', '.join(kinds)}")
    return [Shard(**each) for each in listed]


def _check_there(path: Path, shard: Shard) -> None:
    if not path.is_file():
        raise ShardError(f"{path} is missing: the shards were not copied whole")
    if (n_bytes := path.stat().st_size) != shard.n_bytes:
        raise ShardError(f"{path} is truncated: {n_bytes:,} of {shard.n_bytes:,} bytes")


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
