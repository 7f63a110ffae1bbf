"""Published checkpoints, from the web into the cache, as model folders."""

import contextlib
import os
from pathlib import Path

from gvtnets_tf import download
from gvtnets_tf.atomic_files import atomic_write, check_writable, remove
from gvtnets_tf.zoo.cache import broken, cache_folder, seal, shipped_folder
from gvtnets_tf.zoo.registry import about

LARGEST_INDEX = 2**20  # bytes of an `.index`, whose size is not known; such a one has 10,000


def fetch(name, force=False, cache=None, progress=True, start=lambda: None):
    """Make sure that the model folder of a name is on this machine.

    The released checkpoint is downloaded (from `$GVTNETS_MIRROR` in place of its own address,
    where set), checked, converted and removed; what stays is a model folder, and the digests
    of its files. A folder that is there and whole is left alone, a spoiled one replaced.

    Args:
        name: str. Name in the registry.
        force: bool. Whether a whole folder is replaced, too.
        cache: folder to keep it in; by default `$GVTNETS_CACHE` or the user's cache.
        progress: bool. Whether bars are shown on standard error.
        start: callable, called before a network library is needed.

    Returns:
        `Path` of the model folder.

    Raises:
        ValueError: for an unknown name, or files that are not the released ones.
        OSError: as `download.fetch`; or if the cache cannot be written.
    """
    known = about(name)
    if known["where"] == "shipped":
        return Path(shipped_folder() / name)
    folder = Path(cache_folder() if cache is None else cache) / name
    if force or not _is_whole(folder):
        check_writable(folder, force=True)
        with download.locked(folder, progress):
            if force or not _is_whole(folder):  # another process may have been faster
                _make(folder, name, known, progress, start)
    return folder


def _is_whole(folder):
    return folder.is_dir() and not broken(folder)


def _make(folder, name, known, progress, start):
    beside = folder.with_name(f".{name}.download")
    try:
        prefix = _download(known, beside, progress)
    except (OSError, ValueError):
        with contextlib.suppress(OSError):
            beside.rmdir()  # unless a part of a file is in it, to go on from
        raise
    start()
    with atomic_write(folder, force=True) as made:
        _convert(prefix, made, known)
        seal(made)
    remove(beside)


def _download(known, folder, progress):
    """Fetch the files of a checkpoint; return its prefix."""
    base = os.environ.get("GVTNETS_MIRROR") or known["url"]
    prefix = folder / Path(known["path"]).name
    for suffix, blob in known["git"].items():
        download.fetch(
            f"{base.rstrip('/')}/{known['path']}{suffix}",
            prefix.with_name(prefix.name + suffix),
            size=known["bytes"] if suffix.startswith(".data") else None,
            digest=f"git:{blob}",
            progress=progress,
            most=LARGEST_INDEX,
        )
    return prefix


def _convert(prefix, out, known):
    from gvtnets_tf.zoo.conversion import convert_tf1

    convert_tf1(
        prefix,
        out,
        known["preset"],
        provenance=f"converted from the {known['converted_from']}, {known['path']}, git blob "
        f"{known['git']['.data-00000-of-00001']}",
        input_channels=tuple(known["input"]),
        output_channels=tuple(known["output"]),
    )
