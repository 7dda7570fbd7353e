"""What an index says of itself, and whether its files are those that it says: read before anything else is.

folder/manifest.json             written last, with the name, size and SHA-256 of every file
"""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from workbench.features.index.layout import RANGE
from workbench.files import read_json

FORMAT = 2
MANIFEST, UNFINISHED = "manifest.json", "building.json"
TABLES = ("features", "examples", "peaks", "texts", "vocabulary")  # a file belongs to the table that its name begins with


class DamagedIndex(ValueError):
    """A file of an index that cannot be read, or is not as it was written."""


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """What goes wrong with reading inside becomes one sentence that names `path`: Parquet that is damaged fails anywhere."""
    try:
        yield
    except DamagedIndex:
        raise
    except (pa.ArrowException, duckdb.Error, OSError, LookupError, TypeError, ValueError, ArithmeticError, MemoryError) as error:
        why = " ".join(str(error).split())[:120]
        raise DamagedIndex(f"{path} is damaged ({why}): copy it again, or delete its index and build that anew") from None


def sha256(path: Path) -> str:
    """Of a file, a piece at a time: 1.3 GB/s."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_manifest(folder: Path) -> dict[str, Any]:
    """What an index says of itself, its files there and of the right size. Raises ValueError, naming the file, where it is damaged."""
    path = folder / MANIFEST
    said = read_json(path)
    if not isinstance(said, dict):
        raise DamagedIndex(f"{path} is damaged: it holds a JSON {type(said).__name__}, expected an object; copy it again")
    if said.get("format") != FORMAT:
        raise ValueError(f"{folder} is an index of format {said.get('format')}, this version reads {FORMAT}: build it anew")
    if problem := _problem(said):
        raise DamagedIndex(f"{path} is damaged: {problem}; copy it again, or delete the folder and build the index anew")
    if missing := [name for name in said["files"] if not (folder / name).is_file()]:
        raise DamagedIndex(f"{folder} lacks {', '.join(missing)}: copy it again, or delete the folder and build the index anew")
    for name, size in said["files"].items():
        if (there := (folder / name).stat().st_size) != size:
            raise DamagedIndex(f"{folder / name} is damaged: it has {there:,} bytes, the manifest says {size:,}")
    return said


def _problem(said: Mapping[str, Any]) -> str:
    """What is wrong with a manifest; nothing, mostly."""
    try:
        for name, kind in {"model": dict, "saes": dict, "corpus": dict, "n_tokens": int, "n_rows_with_peaks": int, "files": dict}.items():
            if type(said[name]) is not kind:
                return f"its {name} is {str(said[name])[:40]!r}"
        texts = [said["model"][name] for name in ("name", "fingerprint")] + [said["corpus"]["fingerprint"]]
        texts += [facts[name] for facts in said["saes"].values() for name in ("fingerprint", "hook_name")]
        counts = [said["corpus"]["n_texts"], said["n_tokens"], *said["files"].values()]
        counts += [facts[name] for facts in said["saes"].values() for name in ("d_in", "d_sae")]
        for wrong in [each for each in texts if type(each) is not str] + [each for each in counts if type(each) is not int or each < 1]:
            return f"{str(wrong)[:40]!r} stands in it for a name or a count"
        if not isinstance(said["model"].get("start_token"), str | None) or type(said.get("n_unknown", 0)) is not int:
            return "its start_token or n_unknown is none"
        if not isinstance(sums := said.get("sha256", {}), dict) or not set(map(type, sums.values())) <= {str}:
            return "its sha256 are none"
        wanted = {
            f"{kind}-{name}-{n:05d}.parquet"
            for name, facts in said["saes"].items()
            for n in range(-(-facts["d_sae"] // RANGE))
            for kind in ("features", "examples", "peaks")
        }
        if not said["saes"] or (lacking := sorted((wanted | {"vocabulary.parquet"}) - set(said["files"]))):
            return f"it names no {lacking[0] if said['saes'] else 'SAE'}"
        if not any(name.startswith("texts-") for name in said["files"]) or any(Path(name).name != name for name in said["files"]):
            return "its files are not those of an index"
    except KeyError as error:
        return f"it lacks {error.args[0]}"
    except (TypeError, AttributeError):
        return "an object in it is none"
    return ""
