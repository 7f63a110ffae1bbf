import os
import zipfile
from pathlib import Path

import numpy as np
import psutil
import pytest
import tifffile
from microscope_files import counts, png

from gvtnets_tf.images.axes import rearrange
from gvtnets_tf.images.image import Image
from gvtnets_tf.images.lazy_arrays import CACHE
from gvtnets_tf.images.readers import read, read_metadata, read_npz
from gvtnets_tf.images.writers import write

KNOWN_AXES = ("YX", "CYX", "ZYX", "ZCYX")  # that end the names of the shared images


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_a_folder_of_planes_is_a_stack_in_natural_order(tmp_path, suffix):
    pixels = counts(12, 8, 9)
    for z, plane in enumerate(pixels):
        write(tmp_path / f"z_depth-{z}{suffix}", Image(plane, "YX", {"X": 0.5}))
    image = read(tmp_path)
    assert (image.axes, image.voxel_size) == ("ZYX", {"X": 0.5})
    np.testing.assert_array_equal(image.array, pixels)
    assert read(tmp_path, axes="TYX").axes == "TYX"


@pytest.mark.parametrize("suffix", [".png", ".tif", ".zlib.tif"])
def test_a_series_is_opened_without_its_pixels_and_holds_no_file_open(tmp_path, suffix):
    pixels = counts(12, 80, 90)
    for z, plane in enumerate(pixels):
        if suffix == ".png":
            png(tmp_path / f"{z}.png", plane)
        else:
            compression = "zlib" if "zlib" in suffix else None
            tifffile.imwrite(tmp_path / f"{z}{suffix}", plane, compression=compression)
    before, held = psutil.Process().num_fds(), CACHE.size
    image = read(tmp_path)
    assert CACHE.size == held
    part = image.crop({"Z": (3, 5), "X": (10, 20)}).numpy()
    np.testing.assert_array_equal(part, pixels[3:5, :, 10:20])
    assert CACHE.size == held + 2 * pixels[0].nbytes
    np.testing.assert_array_equal(image.numpy(), pixels)
    assert psutil.Process().num_fds() == before


def test_a_damaged_plane_of_a_series_is_named_when_it_is_opened(tmp_path):
    for name in "ab":
        png(tmp_path / f"{name}.png", counts(40, 50))
    path = tmp_path / "b.png"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match=r"b\.png cannot be read as PNG"):
        read(tmp_path)


def test_a_plane_that_does_not_fit_is_named(tmp_path):
    png(tmp_path / "a.png", counts(8, 9))
    png(tmp_path / "b.png", counts(8, 8))
    with pytest.raises(ValueError, match=r"b\.png does not fit.*a\.png.*\(8, 9\).*\(8, 8\)"):
        read(tmp_path)
    (tmp_path / "b.png").unlink()
    tifffile.imwrite(tmp_path / "c.tif", counts(8, 9))
    with pytest.raises(ValueError, match=r"of one kind.*2 planes of \.png and \.tif"):
        read(tmp_path)


def test_npy_is_mapped_and_its_axes_follow_the_rule_for_pages(tmp_path, caplog):
    np.save(tmp_path / "a.npy", counts(3, 8, 9))
    image = read(tmp_path / "a.npy")
    assert isinstance(image.array, np.memmap)
    assert image.axes == "ZYX"
    assert "taken as Z" in caplog.text


@pytest.mark.parametrize("suffix", [".ome.tif", ".tif", ".png", ".npy"])
@pytest.mark.parametrize("share", [0.005, 0.02, 0.1, 0.5, 0.9])
def test_a_truncated_file_is_noticed(tmp_path, suffix, share):
    shape = "YX" if suffix == ".png" else "ZYX"
    pixels = counts(*(40, 20, 30)[-len(shape) :])
    whole = write(tmp_path / f"whole{suffix}", Image(pixels, shape)).read_bytes()
    path = tmp_path / f"cut{suffix}"
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ValueError, match=rf"cut{suffix}"):
        read(path, axes=shape)


@pytest.mark.parametrize("suffix", [".ome.tif", ".tif", ".png", ".npy", ".npz"])
def test_an_empty_file_is_named(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    path.touch()
    with pytest.raises(ValueError, match=rf"a{suffix} is empty \(0 bytes\)"):
        (read_npz if suffix == ".npz" else read)(path)


def test_a_missing_file_and_a_foreign_one_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No such file or folder: .*none\.tif"):
        read(tmp_path / "none.tif")
    (tmp_path / "a.tif").write_text("hello, world")
    with pytest.raises(ValueError, match=r"a\.tif is not an image.*begins with b'hello, w'"):
        read(tmp_path / "a.tif")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty is not a series.*0 planes"):
        read(tmp_path / "empty")
    (tmp_path / "a.zarr").mkdir()
    with pytest.raises(ValueError, match=r"a\.zarr cannot be read as Zarr"):
        read(tmp_path / "a.zarr")


def test_an_object_array_is_not_unpickled(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"a\.npy cannot be read as \.npy"):
        read(tmp_path / "a.npy")


def test_a_file_without_metadata_has_none(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", counts(8, 9))
    np.save(tmp_path / "a.npy", counts(8, 9))
    assert read_metadata(tmp_path / "a.tif") == read_metadata(tmp_path / "a.npy") == {}


# Training files.


def test_care_npz_gives_a_pair_per_sample(tmp_path):
    x, y = counts(3, 1, 4, 8, 9, dtype="float32"), counts(3, 1, 4, 8, 9, dtype="float32", seed=1)
    np.savez(tmp_path / "a.npz", X=x, Y=y, axes="SCZYX")
    pairs = read_npz(tmp_path / "a.npz")
    assert [(a.axes, b.axes, a.name) for a, b in pairs] == [
        ("CZYX", "CZYX", f"a_{i}") for i in range(3)
    ]
    np.testing.assert_array_equal(pairs[2][0].array, x[2])
    np.testing.assert_array_equal(pairs[2][1].array, y[2])


@pytest.mark.parametrize("shape", [(3, 1, 1, 8, 9), (3, 1, 8, 9)])
def test_a_projection_npz_loses_z_in_both_spellings(tmp_path, shape):
    np.savez(tmp_path / "a.npz", X=counts(3, 1, 4, 8, 9), Y=counts(*shape), axes="SCZYX")
    for x, y in read_npz(tmp_path / "a.npz"):
        assert (x.axes, x.shape, y.axes, y.shape) == ("CZYX", (1, 4, 8, 9), "CYX", (1, 8, 9))


def test_gvtnets_npz_is_one_pair_of_czyx(tmp_path):
    np.savez(tmp_path / "train_00.npz", X=counts(1, 4, 8, 9), Y=counts(2, 4, 8, 9))
    ((x, y),) = read_npz(tmp_path / "train_00.npz")
    assert (x.axes, x.shape, y.shape) == ("CZYX", (1, 4, 8, 9), (2, 4, 8, 9))
    assert x.name == "train_00"


@pytest.mark.parametrize(
    "arrays, message",
    [
        ({"X": counts(1, 4, 8, 9)}, "it needs arrays X and Y and holds X"),
        ({"X": counts(4, 8, 9), "Y": counts(4, 8, 9)}, r"axes='SCZYX' \(5 letters\).*4 axes"),
        (
            {"X": counts(1, 4, 8, 9), "Y": counts(1, 4, 8, 8)},
            r"X and Y do not go together.*X \(1, 1, 4, 8, 9\), Y \(1, 1, 4, 8, 8\)",
        ),
        (
            {"X": counts(2, 1, 4, 8, 9), "Y": counts(3, 1, 4, 8, 9), "axes": "SCZYX"},
            "X and Y do not go together",
        ),
        (
            {"X": counts(1, 4, 8, 9), "Y": counts(1, 4, 8, 9), "axes": "CZYX"},
            "S must count the samples",
        ),
        (
            {"X": counts(1, 4, 8, 9), "Y": counts(1, 4, 8, 9), "axes": "QZYX"},
            "distinct letters of 'SCZYX'",
        ),
        ({"X": np.array([{}], dtype=object), "Y": counts(1)}, "Object arrays cannot be loaded"),
    ],
)
def test_an_npz_that_does_not_fit_is_named(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(ValueError, match=rf"a\.npz.*{message}"):
        read_npz(tmp_path / "a.npz")


def test_a_truncated_npz_is_named_and_read_sends_npz_to_its_reader(tmp_path):
    np.savez(tmp_path / "a.npz", X=counts(1, 4, 8, 9), Y=counts(1, 4, 8, 9))
    with pytest.raises(ValueError, match="Read it with `read_npz`"):
        read(tmp_path / "a.npz")
    whole = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"a\.npz cannot be read as npz"):
        read_npz(tmp_path / "a.npz")


@pytest.mark.shared
def test_real_images_are_read_by_the_axes_in_their_names(microscopy):
    known = [p for p in microscopy.rglob("*.tif") if p.stem.rsplit("_", 1)[-1] in KNOWN_AXES]
    assert known
    for path in known:
        image = read(path)
        assert image.axes == path.stem.rsplit("_", 1)[-1]
        np.testing.assert_array_equal(rearrange(image.numpy(), image.axes, image.axes), image.array)


@pytest.mark.shared
def test_a_real_series_of_png_is_sorted_by_its_depth(microscopy, tmp_path):
    planes = list((microscopy / "isl-condition-b-A4").glob("*z_depth-*.png"))
    if not planes:
        pytest.skip(f"no planes in {microscopy}")
    for plane in planes:
        (tmp_path / plane.name).symlink_to(plane.resolve())
    image = read(tmp_path)
    assert image.sizes["Z"] == len(planes)
    last = max(planes, key=lambda p: int(p.name.split("z_depth-")[1].split(",")[0]))
    np.testing.assert_array_equal(image.array[-1], read(Path(last)).array)


def save_all_formats(folder, pixels):
    """Write the same planes in every format; return what `read` takes."""
    image = Image(pixels, "ZYX")
    names = ("a.tif", "a.ome.tif", "a.npy", "a.zarr")
    paths = [write(folder / name, image) for name in names]
    for kind in ("zlib", "none"):  # page by page, and mapped into memory
        paths.append(folder / f"{kind}.tif")
        options = {"compression": "zlib"} if kind == "zlib" else {}
        tifffile.imwrite(paths[-1], pixels, photometric="minisblack", **options)
    for z, plane in enumerate(pixels):
        write(folder / "series" / f"{z}.png", Image(plane, "YX"))
    return [*paths, folder / "series"]


def test_an_array_answers_alike_whatever_the_format(tmp_path):
    pytest.importorskip("zarr", reason="needs [zarr]")
    pixels = counts(3, 8, 9)
    for path in save_all_formats(tmp_path, pixels):
        x = read(path, axes="ZYX").array
        found = [x + 1, 2 * x / x.max(), x[1:, ..., ::-1], x[x > x.mean()], x.sum(0), len(x), -x]
        y = pixels
        wanted = [y + 1, 2 * y / y.max(), y[1:, ..., ::-1], y[y > y.mean()], y.sum(0), 3, -y]
        for a, b in zip(found, wanted):
            np.testing.assert_array_equal(np.asarray(a), b, err_msg=str(path))
        with pytest.raises((ValueError, TypeError), match=r"read.only|item assignment"):
            x[0, 0, 0] = 1
        with pytest.raises(ValueError, match=r"read.only"):
            x += 1


# Files that are made to deceive.


def npy(shape, descr="'<u2'"):
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\0" + len(header).to_bytes(2, "little") + header + bytes(100)


@pytest.mark.parametrize(
    "shape, text",
    [
        ("(1000000000, 1000000000)", r"its header asks for \d+\.\d TiB of pixels, and the \d+ B"),
        ("(4611686018427387904, 4, 5)", r"its header asks for \d+\.\d TiB of pixels"),
        ("(60, 2)", r"its header asks for 240 B of pixels, and the 1\d\d B that are stored"),
        ("(-1, 5)", ""),
        ("(1.5, 4)", "shape is not valid"),
        ("(" * 6000 + "1" + ")" * 6000, r"Header info length \(\d+\) is large.*\.$"),
        ("[" * 300, ""),
    ],
)
def test_an_npy_header_is_checked_before_it_is_believed(tmp_path, shape, text):
    (tmp_path / "a.npy").write_bytes(npy(shape))
    with pytest.raises(ValueError, match=rf"a\.npy cannot be read as \.npy.*{text}") as error:
        read(tmp_path / "a.npy")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("descr", ["'<U4'", "'V16'", "[('a', '<u2')]", "'<M8[s]'"])
def test_what_is_no_number_is_no_image(tmp_path, descr):
    (tmp_path / "a.npy").write_bytes(npy("(2, 3)", descr))
    text = r"a\.npy is not an image of numbers\. Received: .* of shape \(2, 3\)"
    with pytest.raises(ValueError, match=text):
        read(tmp_path / "a.npy")


def test_an_image_without_pixels_is_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((0, 4, 5)))
    text = r"a\.npy is not an image of numbers\. Received: float64 of shape \(0, 4, 5\)"
    with pytest.raises(ValueError, match=text):
        read(tmp_path / "a.npy")


def test_text_in_an_npz_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", X=np.full((1, 2, 3, 4), "a"), Y=np.zeros((1, 2, 3, 4)))
    with pytest.raises(ValueError, match=r"a\.npz is not an image of numbers.*<U1"):
        read_npz(tmp_path / "a.npz")


def test_an_npz_larger_than_its_bytes_or_the_memory_is_not_unpacked(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as file:
        for name in "XY":
            file.writestr(f"{name}.npy", npy("(1, 2000, 30000, 30000)"))
    text = r"a\.npz cannot be read as npz.*its header asks for 3\.3 TiB of pixels, and the \d+ B"
    with pytest.raises(ValueError, match=text):
        read_npz(tmp_path / "a.npz")
    blank = np.zeros((1, 50, 1000, 1000), "uint16")
    np.savez_compressed(tmp_path / "b.npz", X=blank, Y=blank[..., :2])
    monkeypatch.setenv("GVTNETS_MAX_MEMORY", "90MB")
    with pytest.raises(
        ValueError,
        match=r"^\S*b\.npz does not fit the memory: it takes 95\.4 MiB when it is read, and 85\.8",
    ):
        read_npz(tmp_path / "b.npz")


@pytest.mark.parametrize("suffix", [".tif", ".npy", ".npz"])
def test_a_pipe_is_not_waited_for(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    os.mkfifo(path)
    text = rf"a{suffix} is not a file but a pipe, a device or a socket: copy it first"
    with pytest.raises(ValueError, match=text):
        (read_npz if suffix == ".npz" else read)(path)


def test_planes_of_a_series_are_read_strictly_too(tmp_path, caplog):
    for name in "ab":
        tifffile.imwrite(tmp_path / f"{name}.tif", counts(8, 9), compression="zlib", metadata=None)
    content = bytearray((tmp_path / "b.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "b.tif") as tif:
        place = tif.pages[0].tags["StripByteCounts"].valueoffset
    content[place : place + 4] = bytes(4)
    (tmp_path / "b.tif").write_bytes(content)
    read(tmp_path, "ZYX")
    assert "b.tif: 1 of 1 pages have no data" in caplog.text
    with pytest.raises(ValueError, match=r"b\.tif: 1 of 1 pages have no data"):
        read(tmp_path, "ZYX", strict=True)


@pytest.mark.parametrize("suffix", [".npy", ".tif"])
def test_what_is_mapped_may_be_larger_than_the_memory(tmp_path, monkeypatch, suffix):
    monkeypatch.setenv("GVTNETS_MAX_MEMORY", "1MB")
    path, shape = tmp_path / f"a{suffix}", (2, 6000, 6000)
    if suffix == ".npy":
        np.lib.format.open_memmap(path, "w+", "uint8", shape)
    else:
        tifffile.memmap(path, shape=shape, dtype="uint8", photometric="minisblack")
    image = read(path, "ZYX").crop({"Y": (5, 7)})
    assert isinstance(image.array, np.memmap)
    assert not image.numpy().any()
