"""OME-Zarr, https://ngff.openmicroscopy.org/0.5/: 0.4 and 0.5 are read, 0.5 is written."""

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gvtnets_tf.checks import check_fits, import_optional, read_value
from gvtnets_tf.images.axes import ORDER
from gvtnets_tf.images.image import Image
from gvtnets_tf.images.lazy_arrays import LazyArray
from gvtnets_tf.images.limits import check_memory, report_gaps
from gvtnets_tf.images.metadata import KEY, convert_step, name_file_in_errors, restore_image

MAPPING = Mapping[str, Any]
CHUNK = {"T": 1, "C": 1, "Z": 32, "Y": 256, "X": 256}  # 4 MiB of uint16
LEVELS = 5  # at most
LONGEST_PATH = 256  # characters, from the image to an array in it
SMALLEST = 128  # voxels along Y and X of the last level
METADATA = {"zarr.json", ".zarray", ".zattrs"}  # files of an array beside its chunks
KINDS = {"T": "time", "C": "channel"}
UNITS = {"T": "second", "Z": "micrometer", "Y": "micrometer", "X": "micrometer"}


def is_zarr(path: Path) -> bool:
    """Return `True` if a folder is a Zarr array or group."""
    return any((path / name).is_file() for name in ("zarr.json", ".zgroup", ".zarray"))


def read(path: Path, axes: str | None = None, strict: bool = False) -> Image:
    """Read level 0 of an OME-Zarr image, or a bare array; see `readers.read`."""
    node = _open(path)
    if not hasattr(node, "shape"):
        return _read_image(path, node, axes, strict)
    names = getattr(node.metadata, "dimension_names", None) or ()
    letters = axes or "".join(str(name) for name in names).upper()
    if set(letters) - set(ORDER) or len(letters) != len(node.shape):
        raise ValueError(
            f"{path} is a Zarr array of shape {node.shape} without OME axes: name them with "
            f"--axes, e.g. --axes {ORDER[-len(node.shape) :]}. Received: axes={letters!r}."
        )
    return restore_image(path, _pixels(path, node, strict), letters, {})


def read_record(path: Path) -> dict:
    """Read the record of an OME-Zarr image, with its `"colors"`; see `metadata.describe_image`."""
    node = _open(path)
    with name_file_in_errors(path, "OME-Zarr"):
        return _parse_record(node)


def write(path: Path, image: Image, record: Mapping, colors: Sequence[str] = ()) -> None:
    """Write OME-Zarr 0.5, with axes in the order of the format, `TCZYX`."""
    zarr = import_optional("zarr", "zarr")
    order = "".join(letter for letter in ORDER if letter in image.axes or letter in "YX")
    pixels = image.numpy(order)
    levels = _pyramid(pixels)
    ome = {"version": "0.5", "multiscales": [_multiscale(image, order, len(levels))]}
    if image.channel_names or colors:
        ome["omero"] = _omero(image, pixels, colors)
    attributes = {"ome": ome, KEY: record["metadata"]}
    group = zarr.create_group(str(path), zarr_format=3, attributes=attributes)
    # A chunk has a checksum, and is there if it is blank too: one that is not there was lost.
    codecs = zarr.codecs.ZstdCodec(), zarr.codecs.Crc32cCodec()
    kept = {"compressors": codecs, "config": {"write_empty_chunks": True}}
    for number, level in enumerate(levels):
        chunks = tuple(min(CHUNK[letter], n) for letter, n in zip(order, level.shape))
        names = order.lower()
        group.create_array(str(number), data=level, chunks=chunks, dimension_names=names, **kept)


def _open(path):
    zarr = import_optional("zarr", "zarr")
    with name_file_in_errors(path, "Zarr"):
        return zarr.open(str(path), mode="r")


def _ome_attributes(node):
    # Version 0.5 has them under "ome", 0.4 among all others.
    return read_value(MAPPING, node.attrs.get("ome", dict(node.attrs)), "ome")


def _parse_record(node):
    omero = read_value(MAPPING, _ome_attributes(node).get("omero", {}), "omero")
    channels = read_value(tuple[MAPPING, ...], omero.get("channels", ()), "omero.channels")
    names, colors = (
        read_value(tuple[str | None, ...], [c.get(key) for c in channels], f"omero.channels.{key}")
        for key in ("label", "color")
    )
    return {
        "metadata": dict(read_value(MAPPING, node.attrs.get(KEY, {}), KEY)),
        "channel_names": [name or "" for name in names] if any(names) else [],
        "colors": [f"#{c.lower()}" for c in colors] if all(colors) else [],
    }


def _read_image(path, group, axes, strict):
    with name_file_in_errors(path, "OME-Zarr"):
        multiscales = _ome_attributes(group).get("multiscales")
        multiscales = read_value(tuple[MAPPING, ...] | None, multiscales, "multiscales")
    if not multiscales:
        members = ", ".join(sorted(name for name, _ in group.members())) or "nothing"
        raise ValueError(
            f"{path} is a Zarr group without an OME-Zarr image (no `multiscales`): choose an "
            f"image inside it. It holds {members}."
        )
    scales = multiscales[0]
    with name_file_in_errors(path, "OME-Zarr"):
        first = scales["datasets"][0]
        place = read_value(str, first["path"], "datasets.path")
        check_fits(len(place) < LONGEST_PATH, "datasets.path", place, "the path of an array")
        array = group[place]
        names = read_value(tuple[str, ...], [axis["name"] for axis in scales["axes"]], "axes.name")
        units = [axis.get("unit") for axis in scales["axes"]]
        factors = _scale(scales, len(names)) * _scale(first, len(names))
        record = _parse_record(group)
    letters = axes or "".join(names).upper()
    record["voxel_size"] = {k: convert_step(k, f, u) for k, f, u in zip(letters, factors, units)}
    return restore_image(path, _pixels(path, array, strict), letters, record)


def _pixels(path, array, strict):
    """Return the pixels of an array on disk; of chunks that are not there, some are named."""
    with name_file_in_errors(path, "Zarr"):
        outer = array.shards or array.chunks
        check_memory(path, math.prod(outer) * array.dtype.itemsize)
        grid = [math.ceil(n / step) for n, step in zip(array.shape, outer)]
        folder, total = path / array.path, math.prod(grid)
        files = (file for file in folder.rglob("*") if file.is_file())
        stored = {file.relative_to(folder).as_posix() for file in files} - METADATA
        # Among three keys more than there are files, three are missing, or all that are.
        corner = np.ndindex(*(min(n, len(stored) + 3) for n in grid))
        keys = map(array.metadata.encode_chunk_key, corner)
        names = list(itertools.islice((key for key in keys if key not in stored), 3))
        count = max(total - len(stored), len(names))
        report_gaps(path, names, count, f"of {total} chunks", str(array.fill_value), strict)
        return LazyArray(path, array, "Zarr")  # in here: its sizes may be beyond Python's


def _scale(entry, ndim):
    scales = [t["scale"] for t in entry.get("coordinateTransformations", ()) if "scale" in t]
    return np.prod([np.ones(ndim), *scales], axis=0)


def _multiscale(image, order, levels):
    steps = image.voxel_size
    axes = [
        {"name": k.lower(), "type": KINDS.get(k, "space")}
        | ({"unit": UNITS[k]} if k in steps else {})
        for k in order
    ]
    datasets = []
    for level in range(levels):
        factor = {k: 2**level if k in "YX" else 1 for k in order}
        scale = [float(steps.get(k, 1.0) * factor[k]) for k in order]
        # From the center of the first voxel to that of the mean of the first 2**level voxels.
        shift = [float(steps.get(k, 1.0) * (factor[k] - 1) / 2) for k in order]
        place = [{"type": "scale", "scale": scale}, {"type": "translation", "translation": shift}]
        datasets.append({"path": str(level), "coordinateTransformations": place})
    return {"name": image.name, "type": "mean", "axes": axes, "datasets": datasets}


def _omero(image, pixels, colors):
    low, high = float(np.nanmin(pixels)), float(np.nanmax(pixels))
    shown = {"active": True, "window": {"min": low, "max": high, "start": low, "end": high}}
    colors = colors or ["#ffffff"] * image.sizes.get("C", 1)
    channels = [shown | {"color": color[1:].upper()} for color in colors]
    for name, channel in zip(image.channel_names, channels):
        channel["label"] = name
    return {"channels": channels}


def _pyramid(pixels):
    levels = [pixels]
    while len(levels) < LEVELS and min(levels[-1].shape[-2:]) >= 2 * SMALLEST:
        levels.append(_halve(levels[-1]))
    return levels


def _halve(pixels):
    """Average blocks of 2 x 2 pixels; an odd last row or column is dropped."""
    *lead, y, x = pixels.shape
    blocks = pixels[..., : y // 2 * 2, : x // 2 * 2].reshape(*lead, y // 2, 2, x // 2, 2)
    mean = blocks.mean((-3, -1))
    return (np.rint(mean) if pixels.dtype.kind in "iub" else mean).astype(pixels.dtype)
