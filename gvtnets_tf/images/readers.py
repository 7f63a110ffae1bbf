"""Reading images, training files and their metadata."""

from pathlib import Path
from typing import Any

import numpy as np

from gvtnets_tf.images import metadata
from gvtnets_tf.images.axes import check_axes
from gvtnets_tf.images.formats import czi_nd2, ome_zarr, png, tiff
from gvtnets_tf.images.image import Image
from gvtnets_tf.images.lazy_arrays import LazyArray, PagedArray
from gvtnets_tf.images.limits import DEFLATE, check_memory, check_npy_header

PLANES = (".png", ".tif", ".tiff")


def read(path: str | Path, axes: str | None = None, strict: bool = False) -> Image:
    """Read an image; its pixels stay on disk where the format allows.

    Args:
        path: a TIFF (plain, ImageJ, OME), PNG, `.npy`, CZI or ND2 file, recognized by its
            content (CZI and ND2 need an extra; of several scenes the first is read); a `.zarr`
            folder (OME-Zarr 0.4 or 0.5, level 0, or a bare array); or a folder of PNG or TIFF
            planes, a series along `Z` in natural order.
        axes: str. One letter of `TCZYX` per stored axis, in place of those of the file, e.g.
            `"TYX"` for a time series or `"YXC"` for a color image. With `None`, three axes
            without names are read as `ZYX`, with a warning.
        strict: bool. Raise if pages of a TIFF or chunks of a Zarr array have no data. They are
            read as zeros (as the fill value), with a warning, since a sparse file may mean it so.

    Returns:
        `Image` with the axes of the file, in its order. Its array is memory-mapped for `.npy`
        and for an uncompressed TIFF in one block; else it is a `LazyArray`, which decodes the
        pages or chunks of a crop when the crop is read. A TIFF of another kind, such as LSM, is
        read at once. `voxel_size` is in micrometers, its entry `T` in seconds; resolution tags
        meant for printing are ignored.

    Raises:
        FileNotFoundError: if there is no such file or folder.
        ValueError: naming the file, if it is empty, damaged or not an image, if its axes are
            unknown, if its pages differ in dtype, or if it asks for more than its bytes or the
            memory hold. The memory is what the machine has available, or the environment variable
            `GVTNETS_MAX_MEMORY`, e.g. `4GiB`. A damaged page is reported when it is read.
        ModuleNotFoundError: naming the extra that reads this format.

    Examples:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "cells.npy")
        >>> np.save(path, np.zeros((2, 4, 5), "uint16"))
        >>> image = read(path, axes="CYX")
        >>> image.name, image.sizes
        ('cells', {'C': 2, 'Y': 4, 'X': 5})
    """
    path = Path(path)
    reader, axes = _choose_reader(path), axes and check_axes(axes)
    image = reader(path, axes, strict) if reader in SPARSE else reader(path, axes)
    _check_numbers(path, image.array)
    return image


def read_metadata(path: str | Path) -> dict[str, Any]:
    """Read the metadata that `write` stored with an image, empty if there is none.

    Errors are those of `read`.

    Examples:
        >>> import tempfile
        >>> from gvtnets_tf.images.writers import write
        >>> path = Path(tempfile.mkdtemp(), "cells.tif")
        >>> image = Image(np.zeros((4, 5), "uint16"), "YX")
        >>> read_metadata(write(path, image, metadata={"exposure_ms": 20}))
        {'exposure_ms': 20}
    """
    return dict(_read_record(Path(path)).get("metadata", {}))


def read_colors(path: str | Path) -> tuple[str, ...]:
    """Read the display colors `"#rrggbb"`, one per channel, empty if the file has none."""
    return tuple(_read_record(Path(path)).get("colors", ()))


def read_npz(path: str | Path) -> list[tuple[Image, Image]]:
    """Read the image pairs of a CARE or GVTNets training file.

    Args:
        path: `.npz` with arrays `X` and `Y`. With an array `axes`, e.g. `"SCZYX"`, it is a file
            of CARE, and `S` counts the samples; without, it is one pair `CZYX` of GVTNets. The
            targets of a projection have no `Z`, or one of length one.

    Returns:
        List of `(input, target)`, both `Image`. The target of a projection has axes `CYX`.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: naming the file, if it is damaged, holds Python objects or lacks an
            array, or if the shapes of `X` and `Y` do not match.

    Examples:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "pairs.npz")
        >>> np.savez(path, X=np.zeros((3, 1, 4, 5)), Y=np.ones((3, 1, 4, 5)), axes="SCYX")
        >>> pairs = read_npz(path)
        >>> len(pairs), pairs[0][1].sizes
        (3, {'C': 1, 'Y': 4, 'X': 5})
    """
    path = Path(path)
    _check_exists(path)
    # Opened here, because NumPy does not close a damaged file.
    with (
        metadata.name_file_in_errors(path, "npz"),
        path.open("rb") as raw,
        np.load(raw, allow_pickle=False) as file,
    ):
        if not {"X", "Y"} <= set(file.files):
            raise ValueError(f"it needs arrays X and Y and holds {', '.join(file.files)}")
        for name in {"X.npy", "Y.npy", "axes.npy"} & set(file.zip.namelist()):
            with file.zip.open(name) as member:
                stored = file.zip.getinfo(name).compress_size
                check_memory(path, check_npy_header(member, stored, DEFLATE))
        x, y, axes = file["X"], file["Y"], file.get("axes")
    if axes is None:
        x, y, axes = x[None], y[None], np.array("SCZYX")
    try:
        axes = check_axes(str(axes.astype(str)), x.ndim, allowed="SCZYX")
        y, y_axes = _align_target(x, y, axes)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    x, y = np.moveaxis(x, axes.index("S"), 0), np.moveaxis(y, y_axes.index("S"), 0)
    axes, y_axes = axes.replace("S", ""), y_axes.replace("S", "")
    stem = metadata.file_stem(path)
    names = [f"{stem}_{i}" for i in range(len(x))] if len(x) > 1 else [stem]
    for array in (x, y):
        _check_numbers(path, array)
    return [
        (Image(a, axes, name=name), Image(b, y_axes, name=name)) for a, b, name in zip(x, y, names)
    ]


def _align_target(x, y, axes):
    """Return the target and its axes: those of the input, without `Z` for a projection."""
    z = axes.find("Z")
    if z >= 0 and y.ndim == x.ndim and y.shape[z] == 1 < x.shape[z]:
        y = y.squeeze(z)
    y_axes = axes.replace("Z", "") if z >= 0 and y.ndim == x.ndim - 1 else axes
    sizes, y_sizes = dict(zip(axes, x.shape)), dict(zip(y_axes, y.shape))
    differ = [k for k in y_axes if k != "C" and sizes[k] != y_sizes.get(k)]
    if "S" not in axes or y.ndim != len(y_axes) or differ or 0 in x.shape + y.shape:
        raise ValueError(
            f"X and Y do not go together: all axes but C must agree, none may be empty, and S "
            f"must count the samples. Received: axes={axes!r}, X {x.shape}, Y {y.shape}."
        )
    return y, y_axes


def _choose_reader(path):
    _check_exists(path)
    if path.is_dir():
        zarr = path.suffix.lower() == ".zarr" or ome_zarr.is_zarr(path)
        return ome_zarr.read if zarr else _read_series
    with path.open("rb") as file:
        start = file.read(8)
    for signature, reader in SIGNATURES.items():
        if start.startswith(signature):
            return reader
    hint = " Read it with `read_npz`." if path.suffix == ".npz" else ""
    raise ValueError(
        f"{path} is not an image that can be read: TIFF, PNG, .npy, CZI, ND2, a .zarr folder or a "
        f"folder of planes. Received: a file that begins with {start!r}.{hint}"
    )


def _check_exists(path):
    if not path.exists():
        raise FileNotFoundError(f"No such file or folder: {path}.")
    if not (path.is_file() or path.is_dir()):  # a pipe would never end
        raise ValueError(f"{path} is not a file but a pipe, a device or a socket: copy it first.")
    if path.is_file() and path.stat().st_size == 0:
        raise ValueError(f"{path} is empty (0 bytes): write or copy it again.")


def _read_record(path):
    reader = _choose_reader(path)
    return next((m.read_record(path) for m in (ome_zarr, tiff, png) if m.read is reader), {})


def _read_npy(path, axes):
    with metadata.name_file_in_errors(path, ".npy"), path.open("rb") as file:
        check_npy_header(file, path.stat().st_size)
        pixels = np.load(path, mmap_mode="r", allow_pickle=False)
    axes = axes or metadata.guess_axes(path, pixels.ndim)
    return metadata.restore_image(path, pixels, axes, {"axes": axes})


def _check_numbers(path, array):
    if np.dtype(array.dtype).kind not in "biufc" or 0 in array.shape:
        raise ValueError(
            f"{path} is not an image of numbers. Received: {array.dtype} of shape "
            f"{tuple(array.shape)}."
        )


def _read_series(folder, axes, strict):
    planes = sorted((p for p in folder.iterdir() if _is_plane(p)), key=metadata.natural_key)
    kinds = sorted({p.suffix.lower() for p in planes})
    if not planes or len(kinds) > 1:
        raise ValueError(
            f"{folder} is not a series: it must hold PNG or TIFF planes of one kind. "
            f"Received: {len(planes)} planes of {' and '.join(kinds) or 'no kind'}."
        )
    if axes is None:
        metadata.guess_axes(folder, 3)  # for its message
    plane_axes = axes and axes[1:]
    first = read(planes[0], plane_axes, strict)
    for plane in planes:
        image = read(plane, plane_axes, strict)  # closed at once: there may be hundreds
        same = (image.shape, image.array.dtype) == (first.shape, first.array.dtype)
        if not same or (axes is None and image.axes != "YX"):
            raise ValueError(
                f"{plane} does not fit into a series with {planes[0].name} of shape {first.shape}, "
                f"{first.array.dtype}. Received: axes {image.axes}, shape {image.shape}, "
                f"{image.array.dtype}."
            )

    def read_plane(number):
        # A copy, since a mapped file stays open as long as its pixels are referenced.
        return np.array(read(planes[number], plane_axes).array)

    shape = (len(planes), *first.shape)
    pages = PagedArray(read_plane, shape, first.shape, first.array.dtype)
    pixels = LazyArray(folder, pages, "a series")
    record = {"voxel_size": dict(first.voxel_size), "channel_names": first.channel_names}
    return metadata.restore_image(folder, pixels, (axes or "Z")[0] + first.axes, record)


def _is_plane(path):
    return path.suffix.lower() in PLANES and not path.name.startswith(".")


SPARSE = (tiff.read, ome_zarr.read, _read_series)  # readers of formats that may have gaps
SIGNATURES = {
    **dict.fromkeys((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), tiff.read),  # "+" is BigTIFF
    b"\x89PNG\r\n\x1a\n": png.read,
    b"\x93NUMPY": _read_npy,
    b"ZISRAWFI": czi_nd2.read_czi,
    b"\xda\xce\xbe\n": czi_nd2.read_nd2,
    b"\0\0\0\x0cjP  ": czi_nd2.read_nd2,  # the older kind, in JPEG 2000
}
