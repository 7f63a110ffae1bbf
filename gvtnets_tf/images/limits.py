"""Bounds on what a file may ask for, checked before anything is allocated."""

import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import psutil

from gvtnets_tf.images.metadata import log_once

VARIABLE = "GVTNETS_MAX_MEMORY"  # of the environment: bytes that an array of a file may take
FREE = 2**26  # bytes that may always be taken, so that small crops measure nothing
DEFLATE = 1100  # bytes that a stored byte can become; blank pixels come to 1029
UNITS = {"": 1, "B": 1, **{f"{p}B": 1000**i for i, p in enumerate("KMGT", 1)}}
UNITS |= {f"{p}IB": 1024**i for i, p in enumerate("KMGT", 1)}


def check_memory(path: str | Path, size: int, most: int | None = None) -> None:
    """Raise if an array of `size` bytes does not fit the memory.

    Its limit is `most` bytes (the option `--max-memory`), else the environment variable
    `GVTNETS_MAX_MEMORY` (such as `4GiB`), else what the machine has available.

    Examples:
        >>> check_memory("cells.tif", 3 * 2**30, most=2**30)
        Traceback (most recent call last):
        ValueError: cells.tif does not fit the memory: it takes 3.0 GiB when it is read, ...
    """
    if size <= FREE and most is None:
        return
    variable, given = VARIABLE, os.environ.get(VARIABLE)
    if most is not None:
        variable, limit = "--max-memory (`max_memory`)", most
    else:
        limit = parse_size(given) if given else measure_available()
    if size > limit:
        raise ValueError(
            f"{path} does not fit the memory: it takes {format_size(size)} when it is read, and "
            f"{format_size(limit)} may be used. Crop it, or allow more with {variable}."
        )


def check_capacity(part: str, size: int, stored: int, ratio: int) -> None:
    """Raise if a part of a file claims more bytes than `ratio` times those that it stores."""
    if size > stored * ratio:
        raise ValueError(
            f"{part} asks for {format_size(size)} of pixels, and the {format_size(stored)} that "
            f"are stored cannot hold them"
        )


def check_npy_header(file: BinaryIO, stored: int, ratio: int = 1) -> int:
    """Return the bytes that an open `.npy` asks for; raise if `stored` ones cannot hold them."""
    form = np.lib.format
    first = form.read_magic(file) == (1, 0)
    shape, _, dtype = (form.read_array_header_1_0 if first else form.read_array_header_2_0)(file)
    size = math.prod(shape) * dtype.itemsize
    check_capacity("its header", size, stored, ratio)
    return size


def report_gaps(
    path: str | Path, names: Sequence[str], count: int, parts: str, fill: str, strict: bool
) -> None:
    """Log that parts of an image have no data, or raise with `strict`; `names` are some of them."""
    if not count:
        return
    some = ", ".join(names) + (", ..." if count > len(names) else "")
    message = (
        f"{path}: {count} {parts} have no data and are read as {fill} ({some}). A sparse file may "
        f"mean it so; else it is damaged"
    )
    if strict:
        raise ValueError(f"{message}, and with --strict (`strict`) it is refused.")
    log_once(f"{message}: --strict (`strict`) refuses it.")


def measure_available(
    groups: str | Path = "/sys/fs/cgroup", own: str | Path = "/proc/self/cgroup"
) -> int:
    """Measure the bytes that may still be taken: the machine's, or less in a container.

    Counted is the limit of each control group (v1 or v2, mounted at `groups`) that encloses the
    groups of this process, which the file `own` lists.
    """
    return min([psutil.virtual_memory().available, *_read_groups(Path(groups), Path(own))])


def _read_groups(groups, own):
    lines = own.read_text().splitlines() if own.is_file() else []
    for _, controllers, path in (line.split(":", 2) for line in lines):
        if controllers and "memory" not in controllers.split(","):
            continue
        root = groups / "memory" if controllers else groups
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes")
        limit, usage = names if controllers else ("memory.max", "memory.current")
        inner = root / path.lstrip("/")
        # A limit of an outer group holds too. Inside a container the path may be that
        # of the host, and its files lie at the root.
        for folder in [inner, *inner.parents]:
            if folder.is_relative_to(root) and (folder / limit).is_file():
                yield from _read_group(folder, limit, usage)


def _read_group(folder, limit, usage):
    most = (folder / limit).read_text().strip()
    if not most.isdigit():
        return  # "max": no limit.
    used = int((folder / usage).read_text())
    # The page cache counts as used, and is given up when memory is wanted.
    stat = folder / "memory.stat"
    cached = re.search(r"^inactive_file (\d+)", stat.read_text(), re.M) if stat.is_file() else None
    yield max(0, int(most) - used + (int(cached[1]) if cached else 0))


def parse_size(text: str | float) -> int:
    """Return the bytes of a size such as `"4GiB"`, `"500 MB"` or a number of bytes.

    KiB to TiB are powers of 1024, kB to TB powers of 1000; capitals do not matter.
    """
    match = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)\s*([a-z]*)\s*", str(text), re.I)
    size = int(float(match[1]) * UNITS.get(match[2].upper(), 0)) if match else 0
    if size < 1:
        raise ValueError(
            f"A size in memory is a positive number with a unit, such as 4GiB or 500MB. "
            f"Received: {text!r}."
        )
    return size


def format_size(size: float) -> str:
    """Return bytes as text for people."""
    power = min(max(int(np.log2(float(max(size, 1))) // 10), 0), 4)
    return f"{size / 1024**power:.{1 if power else 0}f} {['B', 'KiB', 'MiB', 'GiB', 'TiB'][power]}"
