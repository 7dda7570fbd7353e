"""Files that are whole or absent: a run that is killed, or a disk that fills up, never leaves half of one."""

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

PACKAGES = tuple(Path(__file__).parents[1] / name for name in ("workbench", "widgets"))


def is_in_package(path: str | Path) -> bool:
    """Is it inside of what was installed? Nothing there is ever written: the next installation would take it away."""
    return any(Path(path).resolve().is_relative_to(package) for package in PACKAGES)


def check_outside(path: str | Path) -> None:
    """Raises ValueError for what lies inside of the installed package."""
    if is_in_package(path):
        raise ValueError(f"{path} belongs to the installed package, which is never written to: copy the folder, or name one of your own")


def checked_file(path: str | Path) -> Path:
    """A file that can be written. Raises ValueError for a folder, and where its own folder is not there."""
    path = Path(path)
    check_outside(path)
    if path.is_dir():
        raise ValueError(f"{path} is a folder: expected a file's name, such as {path / 'page.html'}")
    if not path.absolute().parent.is_dir():
        raise ValueError(f"{path}: the folder {path.absolute().parent} does not exist")
    return path


def checked_folder(path: str | Path) -> Path:
    """A folder that can be made, or is there. Raises ValueError where a file has its name or that of a folder above it."""
    path = Path(path)
    check_outside(path)
    if files := [each for each in (path, *path.parents) if each.exists() and not each.is_dir()]:
        raise ValueError(f"{files[0]} is a file: expected the name of a folder to write")
    return path


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Write beside `path`, flush to disk, rename: a reader never sees half a file."""
    check_outside(path)
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".partial")
    os.close(handle)
    try:
        write(Path(partial))
        with open(partial, "rb") as file:
            os.fsync(file.fileno())
        os.chmod(partial, 0o644)
        os.replace(partial, path)
    finally:
        Path(partial).unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Half a character can stand in a label: it is written as its escape."""
    write_whole(path, lambda partial: partial.write_text(text, encoding="utf-8", errors="backslashreplace"))


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """As `write_text`: whole or not at all."""
    write_text(path, json.dumps(content, indent=1) + "\n")
