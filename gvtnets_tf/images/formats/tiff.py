"""TIFF as microscopes, OME and ImageJ write it."""

import contextlib
import json
import logging
import math
import re
from xml.etree import ElementTree

import numpy as np
import tifffile

from gvtnets_tf.images.axes import ORDER, rearrange
from gvtnets_tf.images.lazy_arrays import Pages, Stored
from gvtnets_tf.images.metadata import KEY, decoding, guess_axes, log_once, parse, restore, step

IMAGEJ_DTYPES = ("uint8", "uint16", "float32")
IMAGEJ_BYTES = 2**32 - 2**25  # ImageJ's hyperstacks have 32-bit offsets
OME_DTYPES = ("bool", "int8", "int16", "int32", "uint8", "uint16", "uint32", "float64", "float32")
PAGED = ("ome", "imagej", "shaped", "uniform", "generic")  # kinds whose pages are pixels only
LOST = re.compile("missing|failed|incomplete|corrupt|out of range|expected", re.IGNORECASE)


def read(path, axes=None):
    """Open the first series of a TIFF file; see `readers.read`.

    What lies there as one block is mapped; else pages are decoded as they are asked for,
    or all at once where the file says more of its pages than their order (LSM, NDPI, ...).
    """
    with decoding(path, "TIFF"), _complaints() as complaints, tifffile.TiffFile(path) as tif:
        _check_whole(tif)
        series, about = tif.series[0], _about(tif)
        stored, names = _layout(series, axes)
        pixels = _pixels(path, series, stored)
        if complaints:
            raise ValueError(complaints[0])
        if len(tif.series) > 1:
            log_once(f"{path}: holds {len(tif.series)} images; the first, {series.shape}, is read.")
    if axes is None:
        return restore(path, pixels, _known(path, names), about)
    return restore(path, pixels, axes, about | {"axes": axes})


def read_about(path):
    """The record of a TIFF file, with `"colors"` where it has them."""
    with decoding(path, "TIFF"), _complaints(), tifffile.TiffFile(path) as tif:
        return _about(tif)


def write_ome(path, image, about, colors=()):
    """Write an OME-TIFF: `Y`, `X` last, the other axes in the order of `image`."""
    order = "".join(letter for letter in image.axes if letter not in "YX") + "YX"
    sizes = {f"PhysicalSize{k}": v for k, v in image.voxel_size.items() if k in "XYZ"}
    words = sizes | {f"{key}Unit": "µm" for key in sizes}
    if "T" in image.voxel_size:
        words |= {"TimeIncrement": image.voxel_size["T"], "TimeIncrementUnit": "s"}
    channel = {"Name": list(image.channel_names)} if image.channel_names else {}
    if colors:
        channel["Color"] = [_ome_color(color) for color in colors]
    words |= {"axes": order, "Channel": channel, "MapAnnotation": {KEY: json.dumps(about)}}
    _save(path, rearrange(image.array[...], image.axes, order), ome=True, metadata=words)


def write_plain(path, image, about, colors=()):
    """Write what ImageJ opens; else, too large or of another dtype, a TIFF with axes in JSON."""
    size = math.prod(image.shape) * image.array.dtype.itemsize
    if image.array.dtype.name in IMAGEJ_DTYPES and size <= IMAGEJ_BYTES:
        return _write_imagej(path, image, about, colors)
    if colors:
        raise ValueError(
            f"A .tif of {size / 2**30:.1f} GiB of {image.array.dtype} cannot hold channel colors: "
            f"write .ome.tif or .zarr, or up to 4 GiB of one of {', '.join(IMAGEJ_DTYPES)}."
        )
    order = "".join(letter for letter in image.axes if letter not in "YX") + "YX"
    words = {"axes": order, KEY: json.dumps(about)}
    _save(path, rearrange(image.array[...], image.axes, order), metadata=words)


def _write_imagej(path, image, about, colors):
    order = "TZCYX"
    steps = image.voxel_size
    words = {"axes": f"{order}S", "Info": f"{KEY} = {json.dumps(about)}\n"}
    words |= {"unit": "micron"} if set(steps) & set("XYZ") else {}
    words |= {"spacing": steps["Z"]} if "Z" in steps else {}
    words |= {"finterval": steps["T"]} if "T" in steps else {}
    if image.channel_names:
        sizes = image.sizes
        words["Labels"] = list(image.channel_names) * (sizes.get("T", 1) * sizes.get("Z", 1))
    if colors:
        ramp = np.arange(256)[None] / 255
        words["LUTs"] = [np.uint8(np.array([_rgb(c)]).T * ramp + 0.5) for c in colors]
        words["mode"] = "composite"
    # ImageJ takes a resolution of zero for unknown.
    resolution = tuple(1 / steps[k] if k in steps else 0 for k in "XY")
    pixels = rearrange(image.array[...], image.axes, order)
    # Without an axis of samples, tifffile takes an X of length one for it.
    _save(path, pixels[..., None], imagej=True, metadata=words, resolution=resolution)


def _save(path, pixels, **kwargs):
    tifffile.imwrite(path, pixels, photometric="minisblack", **kwargs)


@contextlib.contextmanager
def _complaints():
    """Collect what tifffile only logs, such as planes it replaced by zeros."""

    class Collect(logging.Handler):
        def emit(self, entry):
            message = entry.getMessage()
            if entry.levelno >= logging.ERROR or LOST.search(message):
                found.append(message)

    found, handler, logger = [], Collect(), tifffile.logger()
    logger.addHandler(handler)
    try:
        yield found
    finally:
        logger.removeHandler(handler)


def _layout(series, axes):
    """Shape and letters of the axes that count: the asked ones, or all that say something."""
    letters, shape = series.get_axes(False), series.get_shape(False)

    def layout(named):
        kept = [i for i, letter in enumerate(letters) if shape[i] > 1 or letter in named]
        return tuple(shape[i] for i in kept), "".join(letters[i] for i in kept)

    # OME and ImageJ name all axes always: there, an axis of length one says nothing.
    stored, names = layout("YX" if series.kind in ("ome", "imagej") else ORDER)
    if axes is None or len(axes) == len(stored):
        return stored, names
    asked, said = layout(axes)
    if said == axes:
        return asked, axes
    return {len(s): s for s in (shape, series.shape)}.get(len(axes), stored), axes


def _check_whole(tif):
    end = tif.filehandle.size
    for page in tif.pages:
        last = max((o + n for o, n in zip(page.dataoffsets, page.databytecounts)), default=0)
        if last > end:
            raise ValueError(f"page {page.index} ends at byte {last}, the file at byte {end}")


def _pixels(path, series, shape):
    """Pixels of a series in a shape with the axes of the file, on disk where that is possible."""
    if series.dataoffset is not None:
        return tifffile.memmap(path, mode="r").reshape(shape)
    pages, first = list(series), series.keyframe
    lead = shape[: len(shape) - len(first.shape)]
    apart = None not in pages and (*lead, *first.shape) == shape and math.prod(lead) == len(pages)
    if not apart or series.kind not in PAGED:
        return series.asarray().reshape(shape)
    first.decode(None, 0)  # raises where there is no decoder, without reading
    places = [(page.parent.filehandle.path, page.offset) for page in pages]
    array = Pages(lambda number: _page(*places[number]), shape, first.shape, first.dtype)
    return Stored(path, array, "TIFF")


def _page(path, offset):
    """Decode the page whose description begins at `offset`."""
    with _complaints() as complaints, tifffile.TiffFile(path) as tif:
        tif.filehandle.seek(offset)
        pixels = tifffile.TiffPage(tif, index=0).asarray()
        if complaints:
            raise ValueError(complaints[0])
    return pixels


def _known(path, letters):
    """Turn tifffile's axes into letters of `TCZYX`, or say why not."""
    if "S" in letters:
        named = re.sub(f"[^{ORDER}]", "Z", letters.replace("S", "C"))
        raise ValueError(
            f"{path} is a color image: convert it to gray, or take its colors as channels with "
            f"--axes, e.g. --axes {named}. Received: axes {letters}."
        )
    unknown = [letter for letter in letters if letter not in ORDER]
    if not unknown:
        return letters
    if len(letters) == 3 and len(unknown) == 1 and "Z" not in letters:
        guess_axes(path, 3)
        return letters.replace(unknown[0], "Z")
    return guess_axes(path, len(letters))


def _about(tif):
    """What the file says beside its pixels, in the form of a `metadata.record`."""
    kind = tif.series[0].kind
    if kind == "ome":
        return _about_ome(tif.ome_metadata)
    if kind == "imagej":
        return _about_imagej(tif)
    shaped = (tif.shaped_metadata or ({},))[0] if kind == "shaped" else {}
    return parse(shaped.get(KEY))


def _about_ome(xml):
    root = ElementTree.fromstring(xml)
    pixels = root.find("{*}Image/{*}Pixels")
    if pixels is None:  # the description lies in another file
        return {}
    note = next((m.text for m in root.iterfind(".//{*}M") if m.get("K") == KEY), None)
    steps = {
        k: step(k, pixels.get(f"PhysicalSize{k}"), pixels.get(f"PhysicalSize{k}Unit", "µm"))
        for k in "XYZ"
    }
    steps["T"] = step("T", pixels.get("TimeIncrement"), pixels.get("TimeIncrementUnit", "s"))
    channels = pixels.findall("{*}Channel")
    names = [channel.get("Name", "") for channel in channels]
    colors = [channel.get("Color") for channel in channels]
    return parse(note) | {
        "voxel_size": {k: v for k, v in steps.items() if v},
        "channel_names": names if any(names) else [],
        "colors": [f"#{int(c) >> 8 & 0xFFFFFF:06x}" for c in colors] if all(colors) else [],
    }


def _about_imagej(tif):
    words, tags = tif.imagej_metadata, tif.pages[0].tags
    note = re.search(rf"^{KEY} = (.*)$", words.get("Info", ""), re.MULTILINE)
    steps = {"Z": step("Z", words.get("spacing"), words.get("zunit", words.get("unit")))}
    steps["T"] = step("T", words.get("finterval"), words.get("tunit", "s"))
    for letter in "XY":
        per_unit, denominator = tags[f"{letter}Resolution"].value
        unit = words.get(f"{letter.lower()}unit", words.get("unit"))
        steps[letter] = step(letter, denominator / per_unit if per_unit else None, unit)
    colors = [f"#{''.join(f'{v:02x}' for v in lut[:, -1])}" for lut in words.get("LUTs", ())]
    return parse(note and note[1]) | {
        "voxel_size": {k: v for k, v in steps.items() if v},
        "colors": colors,
    }


def _rgb(color):
    return tuple(bytes.fromhex(color.removeprefix("#")))


def _ome_color(color):
    red, green, blue = _rgb(color)
    return int.from_bytes(bytes((red, green, blue, 255)), "big", signed=True)
