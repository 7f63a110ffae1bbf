import errno
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from microscope_files import COLORS, METADATA, NAMES, counts, stack
from PIL import Image as Picture

from gvtnets_tf import atomic_files
from gvtnets_tf.images.image import Image
from gvtnets_tf.images.readers import read, read_colors, read_metadata
from gvtnets_tf.images.writers import cast, write

KEEPS_COLORS = (".ome.tif", ".ome.tiff", ".tif", ".zarr")
COMMON = ["uint8", "uint16", "uint32", "int8", "int16", "float32", "float64", "bool"]
DTYPES = {
    ".ome.tif": [*COMMON, "int32"],
    ".tif": [*COMMON, "int64", "float16"],
    ".zarr": [*COMMON, "int64"],
    ".png": ["uint8", "uint16"],
}


@st.composite
def images(draw, suffix):
    planes = "" if suffix == ".png" else "".join(draw(st.sets(st.sampled_from("TCZ"))))
    axes = "".join(draw(st.permutations(planes + "YX")))
    if suffix == ".zarr":  # which has one order, that of time, channel, space
        axes = "".join(sorted(axes, key="TCZYX".index))
    shape = [draw(st.integers(1, 4)) for _ in axes]
    known = draw(st.sets(st.sampled_from(axes)) if axes else st.just(set())) - {"C"}
    steps = {letter: draw(st.floats(1e-3, 1e3)) for letter in sorted(known)}
    return Image(counts(*shape, dtype=draw(st.sampled_from(DTYPES[suffix]))), axes, steps)


@pytest.mark.parametrize("suffix", DTYPES)
@given(data=st.data())
@settings(deadline=None, max_examples=25)
def test_axes_voxel_size_dtype_and_pixels_survive_a_round_trip(tmp_path_factory, suffix, data):
    image = data.draw(images(suffix))
    back = read(write(tmp_path_factory.mktemp("trip") / f"a{suffix}", image))
    assert back.axes == image.axes
    assert back.array.dtype == image.array.dtype
    assert dict(back.voxel_size) == pytest.approx(dict(image.voxel_size), rel=1e-5)
    np.testing.assert_array_equal(back.numpy(), image.array)


@pytest.mark.parametrize("suffix", KEEPS_COLORS)
def test_names_colors_and_metadata_survive_a_round_trip(tmp_path, suffix):
    path = write(tmp_path / f"a{suffix}", stack(), metadata=METADATA, colors=COLORS)
    assert read(path).channel_names == NAMES
    assert read(path).name == "a"
    assert read_colors(path) == COLORS
    assert read_metadata(path) == METADATA


def test_a_cast_rounds_clips_and_counts():
    array, clipped = cast(np.float32([-3, -0.4, 0.6, 254.6, 255.4, 300]), "uint8")
    np.testing.assert_array_equal(array, [0, 0, 1, 255, 255, 255])
    assert array.dtype == "uint8"
    assert clipped == pytest.approx(2 / 6)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "uint32", "int32"])
@given(values=st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=9))
@settings(deadline=None, max_examples=25)
def test_a_cast_is_the_nearest_number_that_the_dtype_has(dtype, values):
    array, clipped = cast(np.float32(values), dtype)
    limits = np.iinfo(dtype)
    nearest = [int(np.clip(np.rint(np.float64(v)), limits.min, limits.max)) for v in values]
    assert array.tolist() == nearest
    outside = [not limits.min <= np.rint(np.float64(v)) <= limits.max for v in values]
    assert clipped == pytest.approx(np.mean(outside))


def test_a_cast_to_half_precision_clips_instead_of_becoming_infinite():
    array, clipped = cast(np.uint16([1, 65535]), "float16")
    assert array.tolist() == [1, 65504]
    assert clipped == 0.5


@pytest.mark.parametrize(
    "array, dtype, message",
    [
        (np.float32([1, np.nan]), "uint16", "uint16 has no NaN.*1 NaN out of 2"),
        (np.ones(2), "uint15", "`dtype` cannot be 'uint15'. Did you mean 'uint16'"),
        (np.complex64([1j]), "uint8", "Only real numbers.*complex64"),
    ],
)
def test_an_impossible_cast_is_refused(array, dtype, message):
    with pytest.raises(ValueError, match=message):
        cast(array, dtype)


def test_the_clipped_share_is_said(tmp_path, caplog):
    image = Image(np.float32([[1, 2], [3, 70000]]), "YX")
    path = write(tmp_path / "a.tif", image, dtype="uint16")
    assert "a.tif: 25.00% of the values were clipped to uint16" in caplog.text
    assert read(path).numpy().tolist() == [[1, 2], [3, 65535]]
    write(tmp_path / "b.tif", Image(np.float32([[1, 2]]), "YX"), dtype="uint16")
    assert len(caplog.records) == 1


def test_npy_says_what_it_does_not_keep(tmp_path, caplog):
    path = write(tmp_path / "a.npy", stack(), metadata=METADATA)
    assert "not kept: axes, voxel_size, channel_names, metadata" in caplog.text
    np.testing.assert_array_equal(read(path, axes="CZYX").array, stack().array)


@pytest.mark.parametrize(
    "name, image, options, message",
    [
        ("a.jpg", stack(), {}, "`suffix of the output` cannot be '.jpg'"),
        ("a.png", stack(), {}, "Axis C has 3 entries and no place in 'YX'"),
        ("a.png", Image(np.ones((3, 3)), "YX"), {}, r"A \.png.* no float64: .*--dtype uint16"),
        ("a.npy", stack(), {"colors": COLORS}, "cannot hold channel colors"),
        (
            "a.ome.tif",
            Image(counts(3, 3, dtype="int64"), "YX"),
            {},
            "holds no int64: .*--dtype float32",
        ),
        ("a.tif", stack(), {"colors": ["red"] * 3}, "3 channels need 3 colors '#rrggbb'"),
        ("a.tif", stack(), {"metadata": {"x": object()}}, "must be what JSON can hold"),
        ("a.tif", Image(counts(2, 3, 3), "CYX", {}, NAMES), {}, "2 channels need 2 names"),
        ("a.tif", Image(counts(0, 3), "YX"), {}, "An empty image"),
        (
            "a.tif",
            Image(np.ones((3, 3)), "YX"),
            {"colors": ["#ffffff"]},
            "float64 cannot hold channel colors",
        ),
    ],
)
def test_what_a_format_cannot_hold_is_refused(tmp_path, name, image, options, message):
    with pytest.raises(ValueError, match=message):
        write(tmp_path / name, image, **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".ome.tif", ".tif", ".zarr", ".png", ".npy"])
def test_nothing_is_overwritten_without_force(tmp_path, suffix):
    first, second = (Image(np.full((4, 4), n, "uint8"), "YX") for n in (1, 2))
    path = write(tmp_path / f"a{suffix}", first)
    with pytest.raises(FileExistsError, match="exists and is not overwritten"):
        write(path, second)
    assert read(path).numpy().max() == 1
    write(path, second, force=True)
    assert read(path).numpy().max() == 2
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("suffix", [".ome.tif", ".tif", ".zarr", ".png", ".npy"])
def test_what_another_program_wrote_is_not_replaced(tmp_path, suffix):
    pixels, path = np.full((4, 4), 1, "uint8"), tmp_path / f"a{suffix}"
    if suffix == ".zarr":
        pytest.importorskip("zarr", reason="needs [zarr]").save(path, pixels)
    elif suffix == ".npy":
        np.save(path, pixels)
    elif suffix == ".png":
        Picture.fromarray(pixels).save(path)
    else:
        tifffile.imwrite(path, pixels, metadata={"Info": "from gvtnets_tf/a.tif"})
    image = Image(pixels + 1, "YX")
    with pytest.raises(
        FileExistsError, match=rf"a{suffix} was not written by gvtnets_tf, and --fo"
    ):
        write(path, image, force=True)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(
    "suffix, module, name",
    [
        (".ome.tif", "tifffile.TiffWriter", "write"),
        (".tif", "tifffile.TiffWriter", "write"),
        (".zarr", "zarr.Group", "create_array"),
        (".npy", "numpy", "save"),
        (".png", "PIL.Image.Image", "save"),
    ],
)
def test_a_full_disk_leaves_no_partial_file(tmp_path, monkeypatch, suffix, module, name):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    old = write(tmp_path / f"a{suffix}", Image(counts(4, 4), "YX"))
    monkeypatch.setattr(f"{module}.{name}", full)
    with pytest.raises(OSError, match=r"Could not write .*a\.\S+: No space left on device"):
        write(old, Image(counts(4, 4, seed=1), "YX"), force=True)
    assert list(tmp_path.iterdir()) == [old]
    monkeypatch.undo()
    np.testing.assert_array_equal(read(old).numpy(), counts(4, 4))


def test_a_folder_without_permission_is_named(tmp_path, monkeypatch):
    def denied(*args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(atomic_files.os, "replace", denied)
    with pytest.raises(OSError, match=r"Could not write .*a\.tif: Permission denied"):
        write(tmp_path / "a.tif", Image(counts(4, 4), "YX"))
    assert list(tmp_path.iterdir()) == []


WRITE = """
import sys
import numpy as np
from gvtnets_tf.images.image import Image
from gvtnets_tf.images.writers import write

pixels = np.random.default_rng(0).integers(0, 4096, (32, 1024, 1024)).astype(np.uint16)
write(sys.argv[1], Image(pixels, "ZYX"))
"""


@pytest.mark.parametrize("suffix", [".zarr", ".tif"])
def test_a_process_killed_while_it_writes_leaves_nothing_under_the_name(tmp_path, suffix):
    if suffix == ".zarr":
        pytest.importorskip("zarr", reason="needs [zarr]")
    path = tmp_path / f"a{suffix}"
    process = subprocess.Popen([sys.executable, "-c", WRITE, str(path)])
    try:
        while process.poll() is None and not (tmp_path / f".new.{path.name}").exists():
            time.sleep(0.001)
    finally:
        process.kill()  # SIGKILL, after which nothing of the process runs
        status = process.wait()
    assert status == -signal.SIGKILL
    assert not path.exists()
    hidden = {f".lock.{path.name}", f".new.{path.name}"}
    assert {p.name for p in tmp_path.iterdir()} == hidden
    write(path, Image(np.ones((2, 8, 9), np.uint16), "ZYX"))
    assert read(path).shape == (2, 8, 9)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", [".tif", ".ome.tif", ".npy", ".zarr", ".png"])
def test_a_disk_that_fills_while_an_image_is_written_is_said_with_the_path(tmp_path, suffix):
    resource = pytest.importorskip("resource")
    image = Image(counts(300, 400), "YX")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(OSError, match=rf"^Could not write .*a{suffix}: .*Nothing was kept\.$"):
            write(tmp_path / f"a{suffix}", image)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []
