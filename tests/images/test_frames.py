"""Time series out of frames, and frames out of time series."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gvtnets_tf.images import readers, writers
from gvtnets_tf.images.frames import join_frames, select_frames
from gvtnets_tf.images.image import Image

SIZE = {"T": 2.0, "Y": 0.1, "X": 0.1}


def movie(count=6):
    return np.arange(count * 12, dtype=np.uint16).reshape(count, 3, 4)


@settings(deadline=None, max_examples=60)
@given(
    *[st.none() | st.integers(-8, 8)] * 2,
    st.none() | st.integers(-3, 3).filter(bool),
)
def test_frames_are_chosen_as_python_does(start, stop, step):
    x, part = movie(), slice(start, stop, step)
    text = ":".join("" if v is None else str(v) for v in (start, stop, step))
    image = Image(x, "TYX", SIZE, name="cells")
    if not len(x[part]):
        with pytest.raises(ValueError, match=r"No frame is left: .* of cells, which has 6, count"):
            select_frames(image, text)
        return
    for frames in (text, part):
        found = select_frames(image, frames)
        np.testing.assert_array_equal(found.numpy(), x[part])
        assert found.voxel_size == {**SIZE, "T": 2.0 * abs(step or 1)}
        assert found.name.startswith("cells[")


def test_all_frames_are_the_image_itself():
    image = Image(movie(), "TYX")
    assert select_frames(image, None) is image


def test_frames_of_a_file_are_read_when_they_are_wanted(tmp_path, monkeypatch):
    pytest.importorskip("imagecodecs", reason="needs [io]")
    import tifffile

    from gvtnets_tf.images.formats import tiff

    tifffile.imwrite(
        tmp_path / "a.tif", movie(), compression="zlib", metadata={"axes": "TYX"}, ome=False
    )
    pages = []
    decode = tiff._read_page
    monkeypatch.setattr(tiff, "_read_page", lambda *place: pages.append(place) or decode(*place))
    found = select_frames(readers.read(tmp_path / "a.tif"), "-2:")
    assert (found.shape, pages) == ((2, 3, 4), [])
    np.testing.assert_array_equal(np.asarray(found.array[0]), movie()[4])
    assert len(pages) == 1


def test_a_series_that_is_chosen_backwards_can_be_written(tmp_path):
    path = writers.write(tmp_path / "a.tif", Image(movie(), "TYX", SIZE))
    found = select_frames(readers.read(path), "::-2")
    out = writers.write(tmp_path / "b.tif", found)
    np.testing.assert_array_equal(readers.read(out).numpy("TYX"), movie()[::-2])
    assert readers.read(out).voxel_size["T"] == pytest.approx(4.0)


@pytest.mark.parametrize("frames", ["3", "", "a:b", "1:2:3:4", "::0", "1.5:2", "0:5,7"])
def test_another_form_is_refused_with_an_example(frames):
    with pytest.raises(ValueError, match=r"A:B or A:B:STEP, as in Python, e\.g\. 0:10, ::2"):
        select_frames(Image(movie(), "TYX"), frames)


def test_an_image_without_time_has_no_frames_to_choose():
    with pytest.raises(ValueError, match=r"cells has no axis T: name its axes with --axes.*ZYX"):
        select_frames(Image(movie(), "ZYX", name="cells"), "1:")


def test_frames_make_a_series():
    x = movie()
    for frames in (list(x), [Image(f, "YX", {"Y": 0.1}) for f in x]):
        found = join_frames(frames, "YX", "cells", step=2.0)
        np.testing.assert_array_equal(found.numpy("TYX"), x)
        assert (found.axes, found.name, found.voxel_size["T"]) == ("TYX", "cells", 2.0)


def test_frames_of_unequal_size_are_refused_by_number():
    frames = [np.ones((3, 4)), np.ones((3, 4)), np.ones((3, 5))]
    with pytest.raises(
        ValueError,
        match=r"frames of cells must have one size: frame 2 has axes YX and shape \(3, 5\), frame "
        r"0 YX and \(3, 4\)\. Crop them",
    ):
        join_frames(frames, "YX", "cells")
    with pytest.raises(ValueError, match="frame 1 has axes XY"):
        join_frames([Image(np.ones((3, 3)), "YX"), Image(np.ones((3, 3)), "XY")])
    with pytest.raises(ValueError, match="the series has no frames"):
        join_frames([], "YX")
