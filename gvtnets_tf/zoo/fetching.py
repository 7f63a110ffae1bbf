"""Published checkpoints, from the web into the cache, as model folders."""

import contextlib
import logging
import os
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock, Timeout

from gvtnets_tf import download
from gvtnets_tf.atomic_files import atomic_write, check_writable, remove
from gvtnets_tf.zoo.cache import cache_folder, find_fault, shipped_folder, write_digests
from gvtnets_tf.zoo.registry import read_entry

LARGEST_INDEX = 2**20  # bytes of an `.index`, whose size is not known; such a one has 10,000
logger = logging.getLogger("gvtnets_tf")


def fetch(
    name: str, force: bool = False, cache: str | Path | None = None, progress: bool = True,
    start: Callable[[], None] = lambda: None,
) -> Path:  # fmt: skip
    """Make sure that the model folder of a name is on this machine; return its path.

    The released checkpoint is downloaded (from `$GVTNETS_MIRROR` in place of its own address,
    where set), checked, converted and removed; what stays is a model folder, and the digests
    of its files. A folder that is there and whole is left alone, a spoiled one replaced.
    Processes that fetch the same name wait for each other.

    Args:
        force: bool. Replace a whole folder, too.
        cache: folder to keep it in; by default `$GVTNETS_CACHE` or the user's cache.
        progress: bool. Show bars on standard error.
        start: callable, called before a network library is needed.

    Raises:
        ValueError: for an unknown name, or files that are not the released ones.
        OSError: as `download.fetch`; or if the cache cannot be written.

    Examples:
        >>> fetch("simulated_denoiser").name  # shipped with the package
        'simulated_denoiser'
    """
    entry = read_entry(name)
    if entry["where"] == "shipped":
        return shipped_folder() / name
    folder = Path(cache_folder() if cache is None else cache) / name
    if force or find_fault(folder):
        check_writable(folder, force=True)
        with _lock(folder):
            if force or find_fault(folder):  # another process may have been faster
                _make(folder, entry, progress, start)
    return folder


def _lock(folder):
    """Let one process at a time work on a folder; the system frees the lock of one that dies."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.with_name(f".{folder.name}.lock"))
    try:
        return lock.acquire(timeout=0)
    except Timeout:
        logger.info(f"waiting for another process that fetches {folder}")
        return lock.acquire()
    except OSError as error:  # e.g. a network disk; the digests find what two have mixed up
        logger.info(f"no lock on {folder} ({error}): fetch it by one process at a time")
        return contextlib.nullcontext()


def _make(folder, entry, progress, start):
    # Under a name that does not change, so that the next run removes what a killed one left.
    scratch = folder.with_name(f".{folder.name}.download")
    remove(scratch)
    try:
        with atomic_write(folder, force=True) as beside:
            prefix = _download(entry, scratch, progress)
            start()
            _convert(prefix, beside, entry)
            write_digests(beside)
    finally:
        remove(scratch)


def _download(entry, folder, progress):
    """Fetch the files of a checkpoint; return its prefix."""
    base = os.environ.get("GVTNETS_MIRROR") or entry["url"]
    prefix = folder / Path(entry["path"]).name
    for suffix, blob in entry["git"].items():
        download.fetch(
            f"{base.rstrip('/')}/{entry['path']}{suffix}", prefix.with_name(prefix.name + suffix),
            size=entry["bytes"] if suffix.startswith(".data") else None, digest=f"git:{blob}",
            largest=LARGEST_INDEX, progress=progress,
        )  # fmt: skip
    return prefix


def _convert(prefix, out, entry):
    from gvtnets_tf.zoo.conversion import convert_tf1

    convert_tf1(
        prefix, out, entry["preset"],
        provenance=f"converted from the {entry['converted_from']}, {entry['path']}, git blob "
        f"{entry['git']['.data-00000-of-00001']}",
        input_channels=tuple(entry["input"]), output_channels=tuple(entry["output"]),
    )  # fmt: skip
