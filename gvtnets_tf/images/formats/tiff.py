"""TIFF of microscopes, OME and ImageJ."""

import contextlib
import json
import logging
import math
import re
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import tifffile

from gvtnets_tf.atomic_files import MARK
from gvtnets_tf.images.axes import ORDER
from gvtnets_tf.images.image import Image
from gvtnets_tf.images.lazy_arrays import LazyArray, PagedArray
from gvtnets_tf.images.limits import DEFLATE, check_capacity, check_memory, report_gaps
from gvtnets_tf.images.metadata import (
    KEY,
    convert_step,
    guess_axes,
    log_once,
    name_file_in_errors,
    parse_record,
    restore_image,
)

IMAGEJ_DTYPES = ("uint8", "uint16", "float32")
IMAGEJ_BYTES = 2**32 - 2**25  # hyperstacks have 32-bit offsets
OME_DTYPES = ("bool", "int8", "int16", "int32", "uint8", "uint16", "uint32", "float64", "float32")
# Kinds whose pages are planes in order; others (LSM, NDPI, ...) are read at once.
PAGED = ("ome", "imagej", "shaped", "uniform", "generic")
# Bytes that a stored byte can become, by compression, as blank pixels show: none, LZW, Deflate
# (of Adobe, of others), PackBits, LZMA, Zstandard. The others have no such bound.
RATIOS = {1: 1, 5: 1500, 8: DEFLATE, 32946: DEFLATE, 32773: 64, 34925: 10_000, 50000: 40_000}
FAULT = re.compile("missing|failed|incomplete|corrupt|out of range|expected", re.IGNORECASE)


def read(path: Path, axes: str | None = None, strict: bool = False) -> Image:
    """Read the first series of a TIFF file; see `readers.read`."""
    with _open(path) as (tif, pages, faults):
        series, record = tif.series[0], _parse_metadata(tif)
        _check_members(path, series, pages)
        shape, letters = _layout(series, axes)
        if faults:
            raise ValueError(faults[0])
        blank = [page.index for page in pages if _is_blank(page)]
        names = [f"page {number}" for number in blank[:3]]
        report_gaps(path, names, len(blank), f"of {len(pages)} pages", "zeros", strict)
        pixels = _pixels(path, series, shape, blank)
        if faults:
            raise ValueError(faults[0])
        if len(tif.series) > 1:
            log_once(f"{path}: holds {len(tif.series)} images; the first, {series.shape}, is read.")
    if axes is None:
        return restore_image(path, pixels, _translate_axes(path, letters), record)
    return restore_image(path, pixels, axes, record | {"axes": axes})


def read_record(path: Path) -> dict:
    """Read the record of a TIFF file, with its `"colors"`; see `metadata.describe_image`."""
    with _open(path) as (tif, _, _):
        return _parse_metadata(tif)


def write_ome(path: Path, image: Image, record: Mapping, colors: Sequence[str] = ()) -> None:
    """Write an OME-TIFF; `Y` and `X` are last, the other axes in the order of `image`."""
    order = _last_yx(image.axes)
    sizes = {f"PhysicalSize{k}": v for k, v in image.voxel_size.items() if k in "XYZ"}
    metadata = sizes | {f"{key}Unit": "µm" for key in sizes}
    if "T" in image.voxel_size:
        metadata |= {"TimeIncrement": image.voxel_size["T"], "TimeIncrementUnit": "s"}
    channel = {"Name": list(image.channel_names)} if image.channel_names else {}
    if colors:
        rgba = (bytes.fromhex(color[1:] + "ff") for color in colors)
        channel["Color"] = [int.from_bytes(color, signed=True) for color in rgba]
    metadata |= {"axes": order, "Channel": channel, "MapAnnotation": {KEY: json.dumps(record)}}
    _save(path, image.numpy(order), ome=True, metadata=metadata)


def write_plain(path: Path, image: Image, record: Mapping, colors: Sequence[str] = ()) -> None:
    """Write a hyperstack of ImageJ, or a TIFF with axes in JSON if ImageJ cannot hold it."""
    size = math.prod(image.shape) * image.array.dtype.itemsize
    if image.array.dtype.name in IMAGEJ_DTYPES and size <= IMAGEJ_BYTES:
        return _write_imagej(path, image, record, colors)
    if colors:
        raise ValueError(
            f"A .tif of {size / 2**30:.1f} GiB of {image.array.dtype} cannot hold channel colors: "
            f"write .ome.tif or .zarr, or up to 4 GiB of one of {', '.join(IMAGEJ_DTYPES)}."
        )
    order = _last_yx(image.axes)
    _save(path, image.numpy(order), metadata={"axes": order, KEY: json.dumps(record)})


def _write_imagej(path, image, record, colors):
    order = "TZCYX"
    steps = image.voxel_size
    metadata = {"axes": f"{order}S", "Info": f"{KEY} = {json.dumps(record)}\n"}
    metadata |= {"unit": "micron"} if set(steps) & set("XYZ") else {}
    metadata |= {"spacing": steps["Z"]} if "Z" in steps else {}
    metadata |= {"finterval": steps["T"]} if "T" in steps else {}
    if image.channel_names:
        sizes = image.sizes
        metadata["Labels"] = list(image.channel_names) * (sizes.get("T", 1) * sizes.get("Z", 1))
    if colors:
        rgb = np.array([list(bytes.fromhex(color[1:])) for color in colors])
        metadata["LUTs"] = list(np.uint8(rgb[..., None] * (np.arange(256) / 255) + 0.5))
        metadata["mode"] = "composite"
    # To ImageJ, a resolution of zero is an unknown one.
    resolution = tuple(1 / steps[k] if k in steps else 0 for k in "XY")
    # Without an axis of samples, tifffile mistakes an X of length one for it.
    pixels = image.numpy(order)[..., None]
    _save(path, pixels, imagej=True, metadata=metadata, resolution=resolution)


def _last_yx(axes):
    return "".join(letter for letter in axes if letter not in "YX") + "YX"


def _save(path, pixels, **kwargs):
    tifffile.imwrite(path, pixels, photometric="minisblack", software=MARK, **kwargs)


@contextlib.contextmanager
def _open(path):
    """Open a file, and yield it with its pages and with the faults that tifffile logs."""
    with name_file_in_errors(path, "TIFF"), _faults() as faults, tifffile.TiffFile(path) as tif:
        _check_chain(tif)
        pages = list(tif.pages)
        for page in pages:
            _check_page(page)
        if tif.is_ome:
            _check_ome(tif, pages)
        yield tif, pages, faults


@contextlib.contextmanager
def _faults():
    """Collect faults that tifffile only logs, such as planes replaced by zeros."""
    faults, handler = [], logging.Handler()

    def collect(entry):
        if entry.levelno >= logging.ERROR or FAULT.search(entry.getMessage()):
            faults.append(entry.getMessage())

    handler.emit = collect
    tifffile.logger().addHandler(handler)
    try:
        yield faults
    finally:
        tifffile.logger().removeHandler(handler)


def _layout(series, axes):
    """Return shape and letters of a series: with `axes`, or without axes that mean nothing."""
    letters, shape = series.get_axes(False), series.get_shape(False)

    def drop_single(required):
        indices = [i for i, letter in enumerate(letters) if shape[i] > 1 or letter in required]
        return tuple(shape[i] for i in indices), "".join(letters[i] for i in indices)

    # OME and ImageJ list all axes of every file: there, an axis of length one means nothing.
    stored = drop_single("YX" if series.kind in ("ome", "imagej") else ORDER)
    if axes is None or len(axes) == len(stored[0]):
        return stored
    requested = drop_single(axes)
    if requested[1] == axes:
        return requested
    return {len(s): s for s in (shape, series.shape)}.get(len(axes), stored[0]), axes


def _check_chain(tif):
    """Raise if the chain of pages leads back into itself: tifffile would follow it for hours."""
    file, form, offsets, offset = tif.filehandle, tif.tiff, set(), tif.pages.first.offset
    while 0 < offset < file.size:
        if offset in offsets:
            raise ValueError(f"page {len(offsets)} is an earlier page again, without an end")
        offsets.add(offset)
        file.seek(offset)
        (count,) = struct.unpack(form.tagnoformat, file.read(form.tagnosize))
        file.seek(offset + form.tagnosize + count * form.tagsize)
        following = file.read(form.offsetsize)
        if len(following) < form.offsetsize:
            break  # tifffile logs it
        (offset,) = struct.unpack(form.offsetformat, following)


def _check_page(page):
    """Raise if a page lies beyond the file, or claims more than its bytes can hold."""
    name, end = f"page {page.index}", page.parent.filehandle.size
    offsets, counts = page.dataoffsets, page.databytecounts
    last = max((o + n for o, n in zip(offsets, counts)), default=0)
    if last > end:
        raise ValueError(f"{name} ends at byte {last}, the file at byte {end}")
    if 0 < len(offsets) < math.prod(page.chunked):
        needed = math.prod(page.chunked)
        raise ValueError(f"{name} has {len(offsets)} strips or tiles and needs {needed}")
    if page.compression in RATIOS and not _is_blank(page):
        bits = page.bitspersample if isinstance(page.bitspersample, int) else 1
        stored = end if page.compression == 1 else sum(counts)
        check_capacity(name, page.size * bits // 8, stored, RATIOS[page.compression])


def _is_blank(page):
    """Tell whether strips or tiles of a page have no bytes in the file."""
    offsets, counts = page.dataoffsets, page.databytecounts
    # Where all strips lie in a row, tifffile reads them whatever their counts.
    return page.size and (not offsets or 0 in offsets or (0 in counts and not page.is_contiguous))


def _check_ome(tif, pages):
    """Raise if OME-XML counts more voxels or planes than its files have: tifffile makes a list."""
    root, folder = ElementTree.fromstring(tif.ome_metadata), Path(tif.filehandle.dirname)
    voxels, planes = sum(page.size for page in pages), len(pages)
    names = {m.get("FileName") for m in root.iterfind(".//{*}UUID")} - {None, tif.filename}
    for file in (folder / name for name in sorted(names)):
        if file.exists():  # tifffile logs it if not
            if not file.is_file():
                raise ValueError(f"it names {file.name}, which is not a file")
            with tifffile.TiffFile(file) as other:
                _check_chain(other)
                sizes = [page.size for page in other.pages]
            voxels, planes = voxels + sum(sizes), planes + len(sizes)
    for pixels in root.iterfind(".//{*}Pixels"):
        sizes = {letter: int(pixels.get(f"Size{letter}", 1)) for letter in "TCZYX"}
        if math.prod(sizes.values()) > voxels:
            text = ", ".join(f"{letter} {size}" for letter, size in sizes.items())
            raise ValueError(f"its OME-XML counts {text}, and its pages hold {voxels} voxels")
        for data in pixels.iterfind("{*}TiffData"):
            count = max(int(data.get(key, 0)) for key in ("PlaneCount", "NumPlanes"))
            if count > planes:
                raise ValueError(f"its OME-XML counts {count} planes, and there are {planes} pages")


def _check_members(path, series, pages):
    """Raise if planes of a series are missing, or differ in dtype from its first."""
    if series.kind == "ome":
        members = list(series)
        if None in members:
            raise ValueError(f"{members.count(None)} of {len(members)} planes are not in the file")
        # Pages of other files are compared when they are read.
        pages = [pages[m.index] for m in members if m.parent is pages[0].parent]
    elif series.kind == "shaped" and len(series.parent.series) > 1:
        return  # images of their own
    first = series.keyframe
    for page in pages:
        if page.shape == first.shape and page.dtype != first.dtype:
            raise ValueError(
                f"{path} has pages of several dtypes: page {page.index} holds {page.dtype}, page "
                f"{first.index} {first.dtype}. Save each dtype to a file of its own."
            )


def _pixels(path, series, shape, blank):
    """Return the pixels of a series in a shape, on disk where that is possible."""
    if series.dataoffset is not None and not blank:
        return tifffile.memmap(path, mode="r").reshape(shape)
    pages, first = list(series), series.keyframe
    check_memory(path, first.nbytes)
    leading = shape[: len(shape) - len(first.shape)]
    fits = (*leading, *first.shape) == shape and math.prod(leading) == len(pages)
    if None in pages or not fits or series.kind not in PAGED:
        check_memory(path, series.nbytes)
        return series.asarray().reshape(shape)
    first.decode(None, 0)  # raises if there is no decoder, without reading
    places = [(page.parent.filehandle.path, page.offset) for page in pages]
    array = PagedArray(lambda number: _read_page(*places[number]), shape, first.shape, first.dtype)
    return LazyArray(path, array, "TIFF")


def _read_page(path, offset):
    """Decode the page whose description begins at `offset`."""
    with _faults() as faults, tifffile.TiffFile(path) as tif:
        tif.filehandle.seek(offset)
        page = tifffile.TiffPage(tif, index=0)
        if page.is_contiguous and 0 in page.dataoffsets:  # tifffile would show the file's header
            return np.zeros(page.shape, page.dtype)
        pixels = page.asarray()
        if faults:
            raise ValueError(faults[0])
    return pixels


def _translate_axes(path, letters):
    """Translate axes of tifffile to letters of `TCZYX`; color images raise."""
    if "S" in letters:
        example = re.sub(f"[^{ORDER}]", "Z", letters.replace("S", "C"))
        raise ValueError(
            f"{path} is a color image: convert it to gray, or take its colors as channels with "
            f"--axes, e.g. --axes {example}. Received: axes {letters}."
        )
    unknown = [letter for letter in letters if letter not in ORDER]
    if not unknown:
        return letters
    guess = guess_axes(path, len(letters))
    if len(letters) == 3 and len(unknown) == 1 and "Z" not in letters:
        return letters.replace(unknown[0], "Z")
    return guess


def _parse_metadata(tif):
    kind = tif.series[0].kind
    if kind == "ome":
        return _parse_ome(tif.ome_metadata)
    if kind == "imagej":
        return _parse_imagej(tif)
    shaped = (tif.shaped_metadata or ({},))[0] if kind == "shaped" else {}
    return parse_record(shaped.get(KEY))


def _parse_ome(xml):
    root = ElementTree.fromstring(xml)
    pixels = root.find("{*}Image/{*}Pixels")
    if pixels is None:  # the metadata is in another file
        return {}
    note = next((m.text for m in root.iterfind(".//{*}M") if m.get("K") == KEY), None)
    steps = {
        k: convert_step(k, pixels.get(f"PhysicalSize{k}"), pixels.get(f"PhysicalSize{k}Unit", "µm"))
        for k in "XYZ"
    }
    duration, unit = pixels.get("TimeIncrement"), pixels.get("TimeIncrementUnit", "s")
    steps["T"] = convert_step("T", duration, unit)
    channels = pixels.findall("{*}Channel")
    names = [channel.get("Name", "") for channel in channels]
    colors = [channel.get("Color") for channel in channels]
    return parse_record(note) | {
        "voxel_size": steps,
        "channel_names": names if any(names) else [],
        "colors": [f"#{int(c) >> 8 & 0xFFFFFF:06x}" for c in colors] if all(colors) else [],
    }


def _parse_imagej(tif):
    fields, tags = tif.imagej_metadata, tif.pages[0].tags
    note = re.search(rf"^{KEY} = (.*)$", fields.get("Info", ""), re.MULTILINE)
    steps = {"Z": convert_step("Z", fields.get("spacing"), fields.get("zunit", fields.get("unit")))}
    steps["T"] = convert_step("T", fields.get("finterval"), fields.get("tunit", "s"))
    for letter in "XY":
        per_unit, denominator = tags[f"{letter}Resolution"].value
        unit = fields.get(f"{letter.lower()}unit", fields.get("unit"))
        steps[letter] = convert_step(letter, denominator / per_unit if per_unit else None, unit)
    colors = [f"#{''.join(f'{v:02x}' for v in lut[:, -1])}" for lut in fields.get("LUTs", ())]
    return parse_record(note and note[1]) | {"voxel_size": steps, "colors": colors}
