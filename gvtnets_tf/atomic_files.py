"""Atomic writing: an output is complete, or it is not there."""

import contextlib
import csv
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path


def check_writable(path: str | Path, force: bool = False) -> Path:
    """Return `path` as a `Path` if it can be written, before hours of computation.

    Missing parent folders are allowed.

    Raises:
        FileExistsError: if `path` exists and `force` is `False`.
        PermissionError: if the folder of `path` is not writable.
    """
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
    """Write a temporary file or folder beside `path`, then rename it.

    Args:
        path: file or folder to write. Missing parent folders are made.
        force: bool. Replace an existing `path`.

    Yields:
        `Path` in the same folder, with the suffixes of `path`, that does not exist yet: create
        a file or a folder there. On an error it is removed and `path` does not change.

    Raises:
        FileExistsError, PermissionError: as `check_writable`.
        OSError: with the path and the reason, such as a full disk.
    """
    path = check_writable(path, force)
    beside = path.with_name(f".{uuid.uuid4().hex[:8]}.{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield beside
        # A rename replaces a file by a file, and nothing else.
        if os.path.lexists(path) and (_is_folder(path) or _is_folder(beside)):
            aside = beside.with_name(beside.name + ".old")
            os.replace(path, aside)
            os.replace(beside, path)
            shutil.rmtree(aside) if _is_folder(aside) else aside.unlink()
        else:
            os.replace(beside, path)
    except OSError as error:
        raise describe_failed_write(path, error) from error
    finally:
        remove(beside)


def describe_failed_write(path: str | Path, error: OSError) -> OSError:
    """Return an error of the same class that names the output and the reason of the system.

    An error without an error number, such as a result of this function, is returned unchanged.
    """
    if error.errno is None or error.strerror is None:
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
