"""Files of Zeiss and Nikon: axes, sizes and names, and only the pages asked for."""

import contextlib
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from microscope_files import counts, czi

from gvtnets_tf.images.readers import read, read_metadata

ND2 = b"\xda\xce\xbe\x0a"  # how such a file begins


def test_a_czi_has_its_axes_sizes_and_names(tmp_path):
    pixels = counts(2, 3, 4, 20, 24)
    um = {"X": 0.108, "Y": 0.108, "Z": 0.29}
    image = read(czi(tmp_path / "a.czi", pixels, ["light", "DNA", "ER"], um))
    assert (image.axes, image.shape, image.array.dtype) == ("TCZYX", pixels.shape, np.uint16)
    assert image.voxel_size == pytest.approx(um)
    assert image.channel_names == ("light", "DNA", "ER")
    np.testing.assert_array_equal(image.numpy(), pixels)
    dna = image.select_channels(["DNA"]).crop({"Z": (1, 3), "X": (5, 9)})
    np.testing.assert_array_equal(dna.numpy(), pixels[:, 1:2, 1:3, :, 5:9])


def test_axes_of_length_one_of_a_czi_are_dropped_and_sizes_of_zero_are_unknown(tmp_path):
    pixels = counts(4, 20, 24)
    image = read(czi(tmp_path / "a.czi", pixels, axes="Z"))
    assert (image.axes, image.voxel_size) == ("ZYX", {})
    np.testing.assert_array_equal(image.numpy(), pixels)
    assert read(tmp_path / "a.czi", axes="TYX").axes == "TYX"
    with pytest.raises(ValueError, match=r"a\.czi: `axes` must name each axis"):
        read(tmp_path / "a.czi", axes="CZYX")
    assert read(czi(tmp_path / "b.czi", counts(20, 24), axes="")).shape == (20, 24)


def test_of_a_czi_only_the_planes_asked_for_are_decoded(tmp_path, monkeypatch):
    from bioio_czi import Reader

    pixels = counts(2, 5, 20, 24)
    image = read(czi(tmp_path / "a.czi", pixels, axes="CZ"))
    seen = []
    real = type(Reader(tmp_path / "a.czi").dask_data).__array__
    watched = type(Reader(tmp_path / "a.czi").dask_data)
    monkeypatch.setattr(
        watched, "__array__", lambda x, *args, **kw: seen.append(x.shape) or real(x, *args, **kw)
    )
    part = image.select_channels([1]).crop({"Z": (2, 4)})
    assert seen == []
    np.testing.assert_array_equal(part.numpy(), pixels[1:2, 2:4])
    assert seen == [(20, 24)] * 2
    part.numpy()
    assert len(seen) == 2  # kept


def test_a_color_czi_is_an_error_unless_axes_say_channels(tmp_path):
    pixels = counts(20, 24, 3, dtype="uint8")
    czi(tmp_path / "a.czi", pixels, axes="")
    with pytest.raises(ValueError, match=r"a\.czi is a color image \(axes YXS.*--axes YXC"):
        read(tmp_path / "a.czi")
    image = read(tmp_path / "a.czi", axes="YXC")
    assert (image.axes, image.shape) == ("YXC", (20, 24, 3))


def test_of_several_scenes_the_first_is_read_and_they_are_named(tmp_path, monkeypatch, caplog):
    from bioio_czi import Reader

    czi(tmp_path / "a.czi", counts(20, 24), axes="")
    monkeypatch.setattr(Reader, "scenes", ("A1", "A2"))
    read(tmp_path / "a.czi")
    read(tmp_path / "a.czi")
    said = caplog.text
    assert said.count("a.czi holds 2 scenes (A1, A2): the first is read; save the others") == 1


def test_a_truncated_czi_is_named_and_a_czi_has_no_metadata_of_ours(tmp_path):
    path = czi(tmp_path / "a.czi", counts(20, 24), axes="")
    assert read_metadata(path) == {}
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(ValueError, match=r"a\.czi cannot be read as CZI; is it whole"):
        read(path)


@pytest.mark.parametrize(
    "start, module, extra", [(b"ZISRAWFILE", "bioio_czi", "czi"), (ND2, "nd2", "nd2")]
)
def test_a_missing_reader_names_its_extra(tmp_path, monkeypatch, start, module, extra):
    (tmp_path / "a.bin").write_bytes(start + bytes(100))
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ModuleNotFoundError, match=rf"`{module}`.*gvtnets_tf\[{extra}\]"):
        read(tmp_path / "a.bin")


# No program here writes ND2: a stand-in answers what `nd2.ND2File` does, in its own classes.


def nd2_channel(name, calibrated):
    structures = pytest.importorskip("nd2.structures")
    fields = structures.Volume.__dataclass_fields__
    volume = structures.Volume(**{**dict.fromkeys(fields), "axesCalibrated": calibrated})
    meta = structures.ChannelMeta(name=name, index=0, color=None)
    return structures.Channel(channel=meta, loops=None, microscope=None, volume=volume)


def stand_in(monkeypatch, sizes, pixels, names=("light", "DNA"), calibrated=(True, True, True)):
    import dask.array
    import nd2

    assert {"sizes", "metadata", "to_dask", "voxel_size"} <= set(dir(nd2.ND2File))
    file = SimpleNamespace(
        sizes=sizes,
        to_dask=lambda: dask.array.from_array(pixels, chunks=(1,) * (pixels.ndim - 2) + (-1, -1)),
        voxel_size=lambda: (0.2, 0.2, 1.0),
        metadata=SimpleNamespace(channels=[nd2_channel(name, calibrated) for name in names]),
    )
    monkeypatch.setattr(nd2, "ND2File", lambda path: contextlib.nullcontext(file))


def test_an_nd2_has_its_axes_sizes_and_names(tmp_path, monkeypatch, caplog):
    pixels = counts(2, 3, 4, 2, 20, 24)
    stand_in(monkeypatch, dict(T=2, P=3, Z=4, C=2, Y=20, X=24), pixels)
    (tmp_path / "a.nd2").write_bytes(ND2 + bytes(100))
    image = read(tmp_path / "a.nd2")
    assert (image.axes, image.shape) == ("TZCYX", (2, 4, 2, 20, 24))
    assert image.voxel_size == {"X": 0.2, "Y": 0.2, "Z": 1.0}
    assert image.channel_names == ("light", "DNA")
    np.testing.assert_array_equal(image.numpy(), pixels[:, 0])
    part = image.select_channels(["DNA"]).crop({"Z": (1, 2)})
    np.testing.assert_array_equal(part.numpy(), pixels[:, 0, 1:2, 1:2])
    assert "a.nd2 holds 3 positions: the first is read" in caplog.text


def test_an_nd2_that_was_not_calibrated_has_no_size(tmp_path, monkeypatch):
    stand_in(monkeypatch, dict(Y=20, X=24), counts(20, 24), ["light"], (True, True, False))
    (tmp_path / "a.nd2").write_bytes(ND2 + bytes(100))
    assert read(tmp_path / "a.nd2").voxel_size == {"X": 0.2, "Y": 0.2}


def test_a_damaged_nd2_is_named(tmp_path):
    pytest.importorskip("nd2")
    (tmp_path / "a.nd2").write_bytes(ND2 + bytes(100))
    with pytest.raises(ValueError, match=r"a\.nd2 cannot be read as ND2; is it whole"):
        read(tmp_path / "a.nd2")
