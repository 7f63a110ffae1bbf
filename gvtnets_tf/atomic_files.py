"""Atomic writing: an output is complete, or it is not there."""

import contextlib
import csv
import errno
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

# The error of `ndarray.tofile`, which writes TIFF and .npy: NumPy does not ask the system why.
SHORT = re.compile(r"\d+ requested and \d+ written")


def check_writable(path: str | Path, force: bool = False) -> Path:
    """Return `path` if it can be written, else raise; folders that are missing are made later."""
    path = Path(path)
    if path.exists() and not force:
        raise FileExistsError(
            f"{path} exists and is not overwritten: choose another output, or pass --force "
            f"(`force=True`)."
        )
    above = next(parent for parent in path.absolute().parents if parent.exists())
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise PermissionError(
            f"{path} cannot be written: {above} is not a folder that you may write into. Choose "
            f"another output."
        )
    return path


@contextlib.contextmanager
def atomic_write(path: str | Path, force: bool = False) -> Iterator[Path]:
    """Yield a new path beside `path`, with its suffixes, and rename it to `path` at the end.

    Create a file or a folder there; parent folders are made. On an error it is removed and `path`
    does not change.
    """
    path = check_writable(path, force)
    beside = path.with_name(f".{uuid.uuid4().hex[:8]}.{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield beside
        aside = beside.with_name(beside.name + ".old")
        # A rename replaces a file by a file, and nothing else.
        if os.path.lexists(path) and (_is_folder(path) or _is_folder(beside)):
            os.replace(path, aside)
        os.replace(beside, path)
        remove(aside)
    except OSError as error:
        raise describe_failed_write(path, error) from error
    finally:
        remove(beside)


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
        shutil.rmtree(path, ignore_errors=True)
    elif os.path.lexists(path):
        path.unlink()


def write_csv(path: str | Path, rows: Sequence[Mapping]) -> None:
    """Write mappings as the rows of a CSV file, atomically; a missing key leaves its cell empty."""
    with (
        atomic_write(path, force=True) as beside,
        beside.open("w", newline="", encoding="utf-8") as file,
    ):
        table = csv.DictWriter(file, dict.fromkeys(name for row in rows for name in row))
        table.writeheader()
        table.writerows(rows)


def _is_folder(path):
    return path.is_dir() and not path.is_symlink()
