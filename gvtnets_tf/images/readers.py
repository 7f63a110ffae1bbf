"""Files of microscopes and of other programs, read into `Image`."""

from pathlib import Path

import numpy as np

from gvtnets_tf.images.axes import check_axes
from gvtnets_tf.images.formats import czi_nd2, ome_zarr, png, tiff
from gvtnets_tf.images.image import Image
from gvtnets_tf.images.lazy_arrays import Pages, Stored
from gvtnets_tf.images.metadata import decoding, guess_axes, log_pages_are_z, natural, restore, stem

PLANES = (".png", ".tif", ".tiff")
SIGNATURES = {
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",  # BigTIFF
    b"MM\0+": "TIFF",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\x93NUMPY": "npy",
    b"ZISRAWFI": "CZI",
    b"\xda\xce\xbe\n": "ND2",
    b"\0\0\0\x0cjP  ": "ND2",  # the older kind, in JPEG 2000
}


def read(path, axes=None):
    """Read an image, or open it where it can stay on disk.

    Args:
        path: a TIFF (plain, ImageJ, OME), PNG, `.npy`, CZI or ND2 file, told apart by
            content (the last two by extras, the first scene of several); a `.zarr` folder
            (OME-Zarr 0.4 or 0.5, level 0, or a bare array); or a folder of PNG or TIFF
            planes, a series along `Z` in natural order.
        axes: str. One letter of `TCZYX` per stored axis, in place of what the file
            says, e.g. `"TYX"` for a series in time or `"YXC"` for a color image.
            `None` believes the file; three axes without names are taken as `ZYX`,
            and standard error says so.

    Returns:
        `Image`. `array` stays on disk: memory-mapped for an uncompressed TIFF in one block
        and for `.npy`, else a `pages.Stored`, of which the pages or chunks that a crop needs
        are decoded when it is read (all at once for a TIFF of another kind, such as LSM).
        `voxel_size` is in micrometers, its entry `T`, if any, in seconds; resolution tags
        meant for printing are not read. Axes are those of the file, in its order.

    Raises:
        FileNotFoundError: if nothing is there.
        ValueError: naming the file, if it is empty, damaged, not an image, or if its
            axes are unknown. A page that cannot be decoded is named when it is read.
        ModuleNotFoundError: naming the extra that reads this format.
    """
    path = Path(path)
    reader = {
        "zarr": ome_zarr.read,
        "series": _read_series,
        "TIFF": tiff.read,
        "PNG": png.read,
        "npy": _read_npy,
        "CZI": czi_nd2.read_czi,
        "ND2": czi_nd2.read_nd2,
    }[_kind(path)]
    return reader(path, axes and check_axes(axes))


def read_metadata(path):
    """Read the metadata that `write` stored in an image.

    Args:
        path: file or `.zarr` folder.

    Returns:
        Mapping, empty where none was stored.

    Raises:
        FileNotFoundError, ValueError: as `read` does.
    """
    return dict(_about(Path(path)).get("metadata", {}))


def read_colors(path):
    """Read the display colors of the channels.

    Args:
        path: OME-TIFF, ImageJ TIFF or `.zarr` folder.

    Returns:
        Tuple of `"#rrggbb"`, one per channel, empty where the file has none.

    Raises:
        FileNotFoundError, ValueError: as `read` does.
    """
    return tuple(_about(Path(path)).get("colors", ()))


def read_npz(path):
    """Read the pairs of images of a CARE or GVTNets training file.

    Args:
        path: `.npz` with `X` and `Y`. With `axes`, e.g. `"SCZYX"`, it is CARE's and `S`
            counts the samples; without, it is one pair of `CZYX`, as GVTNets keeps it.
            The targets of a projection may lack `Z` or have it with length one.

    Returns:
        List of `(input, target)`, two `Image`. A projection's target has axes `CYX`.

    Raises:
        FileNotFoundError: if the file is not there.
        ValueError: naming the file, if it is damaged, holds Python objects or lacks an
            array, or if the sizes of `X` and `Y` do not go together.
    """
    path = Path(path)
    _check_there(path)
    # NumPy leaves a file open that it opened itself and could not read.
    with decoding(path, "npz"), path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
        arrays = {key: file[key] for key in ("X", "Y", "axes") if key in file.files}
        if len(arrays) < 2 + ("axes" in arrays):
            raise ValueError(f"it needs arrays X and Y and holds {', '.join(file.files)}")
    x, y = arrays["X"], arrays["Y"]
    if "axes" in arrays:
        axes = str(arrays["axes"].astype(str))
    else:
        x, y, axes = x[None], y[None], "SCZYX"
    try:
        axes = check_axes(axes, x.ndim, allowed="SCZYX")
        y, y_axes = _target_axes(x, y, axes)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    x, y = np.moveaxis(x, axes.index("S"), 0), np.moveaxis(y, y_axes.index("S"), 0)
    axes, y_axes = axes.replace("S", ""), y_axes.replace("S", "")
    names = [f"{stem(path)}_{i}" for i in range(len(x))] if len(x) > 1 else [stem(path)]
    return [
        (Image(a, axes, name=name), Image(b, y_axes, name=name)) for a, b, name in zip(x, y, names)
    ]


def _target_axes(x, y, axes):
    """The target and its axes: those of the input, or without `Z` for a projection."""
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


def _kind(path):
    """Tell the format by the content of a file or folder.

    Raises:
        FileNotFoundError, ValueError: naming the path.
    """
    _check_there(path)
    if path.is_dir():
        return "zarr" if path.suffix.lower() == ".zarr" or ome_zarr.is_zarr(path) else "series"
    with path.open("rb") as file:
        start = file.read(8)
    for magic, kind in SIGNATURES.items():
        if start.startswith(magic):
            return kind
    hint = " Read it with `read_npz`." if path.suffix == ".npz" else ""
    raise ValueError(
        f"{path} is not an image that can be read: TIFF, PNG, .npy, CZI, ND2, a .zarr folder or a "
        f"folder of planes. Received: a file that begins with {start!r}.{hint}"
    )


def _check_there(path):
    if not path.exists():
        raise FileNotFoundError(f"No such file or folder: {path}.")
    if path.is_file() and path.stat().st_size == 0:
        raise ValueError(f"{path} is empty (0 bytes): write or copy it again.")


def _about(path):
    readers = {"zarr": ome_zarr.read_about, "TIFF": tiff.read_about, "PNG": png.read_about}
    kind = _kind(path)
    return readers[kind](path) if kind in readers else {}


def _read_npy(path, axes):
    with decoding(path, ".npy"):
        pixels = np.load(path, mmap_mode="r", allow_pickle=False)
    axes = axes or guess_axes(path, pixels.ndim)
    return restore(path, pixels, axes, {"axes": axes})


def _read_series(folder, axes):
    planes = sorted((p for p in folder.iterdir() if _is_plane(p)), key=natural)
    kinds = sorted({p.suffix.lower() for p in planes})
    if not planes or len(kinds) > 1:
        raise ValueError(
            f"{folder} is not a series: it must hold PNG or TIFF planes of one kind. "
            f"Received: {len(planes)} planes of {' and '.join(kinds) or 'no kind'}."
        )
    if axes is None:
        log_pages_are_z(folder)
    first = read(planes[0], axes and axes[1:])
    for plane in planes:
        image = read(plane, axes and axes[1:])  # and closed: there may be hundreds
        same = (image.shape, image.array.dtype) == (first.shape, first.array.dtype)
        if not same or (axes is None and image.axes != "YX"):
            raise ValueError(
                f"{plane} does not fit into a series with {planes[0].name} of shape {first.shape}, "
                f"{first.array.dtype}. Received: axes {image.axes}, shape {image.shape}, "
                f"{image.array.dtype}."
            )

    def page(number):
        # A copy, since a mapped file stays open for as long as its pixels are held.
        return np.array(read(planes[number], axes and axes[1:]).array)

    shape = (len(planes), *first.shape)
    pixels = Stored(folder, Pages(page, shape, first.shape, first.array.dtype), "a series")
    about = {"voxel_size": dict(first.voxel_size), "channel_names": first.channel_names}
    return restore(folder, pixels, (axes or "Z")[0] + first.axes, about)


def _is_plane(path):
    return path.suffix.lower() in PLANES and not path.name.startswith(".")
