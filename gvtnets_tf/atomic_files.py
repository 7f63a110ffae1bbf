"""Atomic writing: an output is complete, or it is not there; only our own is ever replaced."""

import contextlib
import csv
import errno
import logging
import os
import re
import shutil
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

# The error of `ndarray.tofile`, which writes TIFF and .npy: NumPy does not ask the system why.
SHORT = re.compile(r"\d+ requested and \d+ written")
MARK = "Written by gvtnets_tf"  # in every file that a user names, as its software or comment
MARK_FILE = ".gvtnets"  # in every folder
# Folders without it: the files that together are found in no other, and what the first holds.
OWN_FOLDERS = (
    ("zarr.json", '"gvtnets"'),
    ("model.json", '"format"', "weights.h5"),
    ("summary.json", '"channels"', "metrics.csv"),
)
ENDS = 2**20  # bytes at the beginning and end of a file, one of which holds the mark
logger = logging.getLogger("gvtnets_tf")
_held = set()  # outputs that this process writes, with the thread that does


def check_writable(
    path: str | Path, force: bool = False, inputs: Iterable[str | Path] = ()
) -> Path:
    """Return `path` if it can be written, now or in a new folder, before hours of computation.

    Neither `inputs` of the run nor anything that this package did not write is ever replaced.
    """
    path = Path(path)
    check_inputs_kept([path], inputs)
    if os.path.lexists(path):
        if not force:
            raise FileExistsError(
                f"{path} exists and is not overwritten: choose another output, or pass --force "
                f"(`force=True`)."
            )
        if not is_own(path):
            raise FileExistsError(
                f"{path} was not written by gvtnets_tf, and --force (`force=True`) replaces only "
                f"what was: remove it yourself, or choose another output."
            )
    _check_folder(path)
    return path


def _check_folder(path):
    above = next(parent for parent in path.absolute().parents if parent.exists())
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise PermissionError(
            f"{path} cannot be written: {above} is not a folder that you may write into. Choose "
            f"another output."
        )


def check_inputs_kept(outputs: Iterable[Path], inputs: Iterable[str | Path]) -> None:
    """Raise `ValueError` if an output of a run is one of its inputs, or a folder that holds one."""
    resolved = ((source, Path(source).resolve()) for source in inputs)
    kept = {path: source for source, own in resolved for path in (own, *own.parents)}
    for path in outputs:
        if source := kept.get(path.resolve()):
            raise ValueError(
                f"{path} is an input of this run, or holds one ({source}), and is not replaced by "
                f"its result: choose another output."
            )


def is_own(path: str | Path) -> bool:
    """Tell whether this package wrote a file or folder, or whether nothing is in it."""
    path = Path(path)
    if path.is_dir():
        own = any(
            text in _read_ends(path / name) and all((path / other).is_file() for other in others)
            for name, text, *others in OWN_FOLDERS
            if (path / name).is_file()
        )
        return own or (path / MARK_FILE).is_file() or not any(path.iterdir())
    return path.is_file() and (path.stat().st_size == 0 or MARK in _read_ends(path))


def _read_ends(file):
    with file.open("rb") as stream:
        begin = stream.read(ENDS)
        stream.seek(max(stream.tell(), file.stat().st_size - ENDS))
        return (begin + stream.read(ENDS)).decode("latin-1")


@contextlib.contextmanager
def lock(path: str | Path) -> Iterator[None]:
    """Work on an output that no other run works on; raise `BlockingIOError` if one does.

    The system frees the lock of a process that dies. What it left beside `path` is put in order.
    """
    from filelock import FileLock, Timeout

    path, thread = Path(path), threading.get_ident()
    key, file = (thread, path.absolute()), _beside(path, "lock")
    if key in _held:  # by a function that called this one
        yield
        return
    made = [parent for parent in path.absolute().parents if not parent.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    guard = FileLock(file)
    try:
        guard.acquire(timeout=0)
    except Timeout:
        raise BlockingIOError(
            f"{path} is being written by another run: wait until it is over, or choose another "
            f"output."
        ) from None
    except OSError as error:  # e.g. a network disk
        logger.info(f"no lock on {path} ({error}): write it by one run at a time")
    _held.add(key)
    try:
        _recover(path)
        remove(_beside(path, "new"))
        yield
    finally:
        _held.discard(key)
        with contextlib.suppress(OSError):
            file.unlink()  # while it is held: whoever has opened it sees that it is gone
        guard.release()
        for parent in made:
            with contextlib.suppress(OSError):  # something is in it
                parent.rmdir()


@contextlib.contextmanager
def atomic_write(path: str | Path, force: bool = False) -> Iterator[Path]:
    """Yield a new path beside `path`, with its suffixes, and rename it to `path` at the end.

    Create a file or a folder there; parent folders are made. On an error it is removed and `path`
    does not change. A folder gets the mark that `is_own` looks for; a file must hold `MARK`.
    """
    check_writable(path, force)  # once more behind the lock: another run may have ended meanwhile
    with lock(path), atomic_rewrite(check_writable(path, force)) as beside:
        yield beside
        if _is_folder(beside) and not (beside / "zarr.json").is_file():
            (beside / MARK_FILE).write_text(f"{MARK}\n")


@contextlib.contextmanager
def atomic_rewrite(path: str | Path) -> Iterator[Path]:
    """As `atomic_write`, for a file inside an output of ours, which is replaced without asking."""
    path = Path(path)
    # Under a name that does not change: what a killed run has left there is removed.
    beside = _beside(path, "new")
    _check_folder(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove(beside)
        yield beside
        # A rename replaces a file by a file, and nothing else.
        if os.path.lexists(path) and (_is_folder(path) or _is_folder(beside)):
            os.replace(path, _beside(path, "old"))
        os.replace(beside, path)
    except OSError as error:
        raise describe_failed_write(path, error) from error
    finally:
        _recover(path)
        remove(beside)


def _beside(path, kind):
    return path.with_name(f".{kind}.{path.name}")


def _recover(path):
    """Remove the folder that was set aside for a new one, or put it back if none came."""
    if os.path.lexists(path):
        remove(_beside(path, "old"))
    elif os.path.lexists(_beside(path, "old")):
        os.replace(_beside(path, "old"), path)


def describe_failed_write(path: str | Path, error: OSError) -> OSError:
    """Return an error of the same class that names the output and the reason of the system."""
    if error.errno is None and SHORT.fullmatch(str(error)):
        error = OSError(errno.ENOSPC, f"the disk or a quota is full ({error} elements)")
    if error.errno is None or error.strerror is None:  # such as a result of this function
        return error
    described = type(OSError(error.errno, ""))(
        f"Could not write {path}: {error.strerror}. Nothing was kept."
    )
    described.errno = error.errno
    return described


def remove(path: Path) -> None:
    """Remove a file or a folder, if it exists."""
    if _is_folder(path):
        for _ in range(40):  # threads of Zarr may still write into it after one has failed
            shutil.rmtree(path, ignore_errors=True)
            if not path.exists():
                return
            time.sleep(0.05)
    elif os.path.lexists(path):
        path.unlink()


def write_csv(path: str | Path, rows: Sequence[Mapping]) -> None:
    """Write mappings as the rows of a CSV file, atomically; a missing key leaves its cell empty."""
    with (
        atomic_rewrite(path) as beside,
        beside.open("w", newline="", encoding="utf-8") as file,
    ):
        table = csv.DictWriter(file, dict.fromkeys(name for row in rows for name in row))
        table.writeheader()
        table.writerows(rows)


def _is_folder(path):
    return path.is_dir() and not path.is_symlink()
