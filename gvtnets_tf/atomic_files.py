"""Outputs that appear whole or not at all."""

import contextlib
import csv
import os
import shutil
import uuid
from pathlib import Path


def check_writable(path, force=False):
    """Refuse to overwrite `path` unless `force`; return it as a `Path`.

    Called before hours of work, so it also looks at the folder that `path` will be in.

    Raises:
        FileExistsError: if something is there and `force` is `False`.
        PermissionError: if nothing can be written there.
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
def atomic_write(path, force=False):
    """Write beside `path`, then rename: a reader never sees half an output.

    Args:
        path: the file or folder to make. Missing parent folders are made.
        force: bool. Whether an existing `path` may be replaced.

    Yields:
        `Path` with the suffixes of `path`, in the same folder, that does not exist
        yet: create a file or a folder there. On an error it is removed and
        `path` stays as it was.

    Raises:
        FileExistsError, PermissionError: as `check_writable`.
        OSError: with the path and the reason (no space, no permission).
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


def describe_failed_write(path, error: OSError) -> OSError:
    """Return an error that names the output and the reason of the system.

    Args:
        path: the output that was being written.
        error: what the system raised. One that was described before, by a part of this
            output, is returned as it is.

    Returns:
        Exception of the class that belongs to the error number, without that number in its
        text.
    """
    if error.errno is None or error.strerror is None:
        return error
    described = type(OSError(error.errno, ""))(
        f"Could not write {path}: {error.strerror}. Nothing was kept."
    )
    described.errno = error.errno
    return described


def remove(path):
    """Remove a file or a folder, if it is there."""
    if _is_folder(path):
        shutil.rmtree(path, ignore_errors=True)
    elif os.path.lexists(path):
        path.unlink()


def write_csv(path, rows):
    """Write mappings as CSV with a header, whole or not at all.

    Args:
        path: file to make, or to replace.
        rows: list of mappings; a key that one of them lacks leaves its cell empty.
    """
    with (
        atomic_write(path, force=True) as beside,
        beside.open("w", newline="", encoding="utf-8") as file,
    ):
        table = csv.DictWriter(file, dict.fromkeys(name for row in rows for name in row))
        table.writeheader()
        table.writerows(rows)


def _is_folder(path):
    return path.is_dir() and not path.is_symlink()
