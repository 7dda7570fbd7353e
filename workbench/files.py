"""Files that are whole or absent: a run that is killed, or a disk that fills up, never leaves half of one. And one sentence for those that
cannot be read or written.

write_whole, write_together, whole_folder     written beside their place, flushed to disk, renamed; what a killed process left is taken away
locked                                        one process at a time in a folder, by a lock of the operating system, which dies with it
read_text, read_json                          of a file that is one
spreadsheet                                   a table as CSV in which no text is a formula
"""

import errno
import json
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows: nothing is locked there, and nobody's half files are taken away
    fcntl = None

PACKAGES = tuple(Path(__file__).parents[1] / name for name in ("workbench", "widgets"))
PARTIAL = ".partial"
N_RANDOM = 8  # letters that tempfile puts into a name
PATIENCE = 10.0  # seconds for which a short piece of work waits for another process's
Write = Callable[[Path], Any]


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


def made_folder(path: str | Path) -> Path:
    """The same, made where it is not there. Raises OSError in one sentence where it cannot be."""
    folder = checked_folder(path)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


class WriteError(OSError):
    """A full disk, a folder that must not be written to, … in one sentence."""


class Busy(ValueError):
    """Another process is writing there."""


@contextmanager
def _made(folder: str | Path) -> Iterator[Path]:
    """`made_folder`; where what is inside fails, the empty folders that were made for it go again."""
    new = [each for each in (Path(folder), *Path(folder).parents) if not each.exists()]
    try:
        yield made_folder(folder)
    except BaseException:
        for each in new:
            with suppress(OSError):  # it holds something by now, or was never made
                each.rmdir()
        raise


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """What goes wrong with writing inside becomes one sentence that names `path`; nothing of it is left."""
    try:
        yield
    except OSError as error:
        if isinstance(error, WriteError):
            raise
        raise WriteError(f"{path} could not be written: {error.strerror or error}") from None


def write_whole(path: Path, write: Write) -> None:
    """Write beside `path`, flush to disk, rename: a reader never sees half a file. Raises WriteError where the disk does not take it."""
    check_outside(path)
    with writing(path), _beside(path) as partial:
        _to_disk(partial, write)
        os.replace(partial, path)


def write_together(folder: str | Path, files: Mapping[str, Write]) -> None:
    """Several files that are one thing: all are on the disk before the first is renamed. The last one stands for the whole: where it is,
    the others are of the same time. Where one cannot be written, what was in the folder before stays."""
    with _made(folder) as folder, writing(folder), ExitStack() as stack:
        partials = {folder / name: stack.enter_context(_beside(folder / name)) for name in files}
        for partial, write in zip(partials.values(), files.values(), strict=True):
            _to_disk(partial, write)
        (folder / list(files)[-1]).unlink(missing_ok=True)
        for path, partial in partials.items():
            os.replace(partial, path)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Gives a folder of the same name, elsewhere, to write into; it stands in its place when it is complete and on the disk, or never.
    Raises ValueError where another process is writing it."""
    outer, inner = path.with_name(path.name + PARTIAL), path.with_name(path.name + PARTIAL) / path.name
    with _made(outer), locked(outer):
        try:
            with writing(path):
                shutil.rmtree(inner, ignore_errors=True)  # of a process that was killed
                inner.mkdir()
            yield inner
            with writing(path):
                for written in [*inner.rglob("*"), inner]:
                    handle = os.open(written, os.O_RDONLY)
                    os.fsync(handle)
                    os.close(handle)
                os.rename(inner, path)
        finally:
            shutil.rmtree(outer, ignore_errors=True)


def clear_partial_folder(path: Path) -> None:
    """Takes away what a process left that was killed after the folder had got its name."""
    outer = path.with_name(path.name + PARTIAL)
    if outer.is_dir():
        with suppress(Busy), locked(outer):
            shutil.rmtree(outer, ignore_errors=True)


@contextmanager
def locked(path: Path, seconds: float = 0.0) -> Iterator[None]:
    """Inside, no other process is inside of this with the same folder. Waits so many seconds for one that is, then raises ValueError."""
    handle, end = -1, time.monotonic() + seconds
    try:
        while True:
            handle = os.open(path, os.O_RDONLY)
            is_locked = _lock(handle)
            if is_locked is not False and _is_at(handle, path):
                break
            os.close(handle)
            handle = -1
            if is_locked is False and time.monotonic() >= end:
                raise Busy(f"{path} is being written by another process: wait until that is done, or name another folder")
            time.sleep(0.02)
            made_folder(path)  # it may have been taken away, done
        yield
    finally:
        if handle >= 0:
            os.close(handle)


def _lock(handle: int) -> bool | None:
    """Is it ours now? None where there are no such locks: on Windows, on some network disks."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno in (errno.EWOULDBLOCK, errno.EACCES) else None
    return True


def _is_at(handle: int, path: Path) -> bool:
    """Is what was opened still what stands there?"""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """An empty file beside `path`, held by this process, and gone afterwards unless it was renamed."""
    for left in path.parent.glob(f"{escape(path.name)}{'?' * N_RANDOM}{PARTIAL}"):
        _take_away(left)
    while True:
        handle, partial = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=PARTIAL)
        _lock(handle)
        if _is_at(handle, Path(partial)):  # else another process took it for a dead one's, before it was locked
            break
        os.close(handle)
    try:
        yield Path(partial)
    finally:
        os.close(handle)
        Path(partial).unlink(missing_ok=True)


def clear_partials(folder: Path) -> None:
    """Takes away what killed processes left half written in a folder."""
    for left in folder.glob(f"*{PARTIAL}"):
        if left.is_file():
            _take_away(left)


def _take_away(left: Path) -> None:
    """Half a file, if the process that wrote it is dead: if not, it holds it."""
    with suppress(OSError):
        handle = os.open(left, os.O_RDONLY)
        try:
            if _lock(handle):
                left.unlink(missing_ok=True)
        finally:
            os.close(handle)


def _to_disk(partial: Path, write: Write) -> None:
    write(partial)
    with open(partial, "rb") as file:
        os.fsync(file.fileno())
    os.chmod(partial, 0o644)


def write_text(path: Path, text: str) -> None:
    """Half a character can stand in a label: it is written as its escape."""
    write_whole(path, lambda partial: partial.write_text(text, encoding="utf-8", errors="backslashreplace"))


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """As `write_text`: whole or not at all."""
    write_text(path, json.dumps(content, indent=1) + "\n")


def write_tensors(path: Path, tensors: Mapping[str, Any], metadata: dict[str, str] | None = None) -> None:
    """A safetensors file, at once: for what `write_whole` and its like are given. Raises OSError as other writers do."""
    import safetensors
    from safetensors.torch import save_file

    try:
        save_file(dict(tensors), path, metadata)
    except safetensors.SafetensorError as error:
        raise OSError(str(error)) from None


def check_is_file(path: Path) -> None:
    """Raises ValueError for what is none: reading a pipe would wait for ever."""
    if not path.exists():
        raise ValueError(f"{path} does not exist: expected a file")
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError(f"{path} is {'a folder' if path.is_dir() else 'a pipe or a device'}: expected a file")


def read_text(path: Path, kind: type[ValueError] = ValueError) -> str:
    """Raises `kind`, in one sentence, for what is no file, or not in UTF-8."""
    try:
        check_is_file(path)
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise kind(f"{path} is not UTF-8: byte {error.start:,} is {error.object[error.start]:#04x}") from None
    except ValueError as error:
        raise kind(str(error)) from None


def read_json(path: Path, kind: type[ValueError] = ValueError) -> Any:
    """The same for what is no JSON, or nested deeper than Python reads."""
    return parse_json(read_text(path, kind), str(path), kind)


def parse_json(text: str, where: str, kind: type[ValueError] = ValueError) -> Any:
    """What a text says. where: which one, for the sentence."""
    try:
        return json.loads(text)
    except RecursionError:
        raise kind(f"{where} is not JSON that can be read: it is nested too deep") from None
    except ValueError as error:  # also numbers of more digits than Python takes
        raise kind(f"{where} is not JSON ({error})") from None


def spreadsheet(table: Any, texts: Iterable[str]) -> str:
    """A DataFrame as CSV; what stands in the columns `texts` and a spreadsheet would take for a formula is quoted."""
    quoted = {name: table[name].astype(str).str.replace(r"^(?=[=+\-@\t\r])", "'", regex=True) for name in texts}
    return table.assign(**quoted).to_csv(index=False)
