import numpy as np
import pytest

from gvtnets_tf.images.image import Image

NAMES = ("DNA", "ER", "AGP")


@pytest.fixture
def image():
    array = np.arange(3 * 4 * 5 * 6).reshape(3, 4, 5, 6)
    return Image(array, "CZYX", {"Z": 0.3, "Y": 0.1, "X": 0.1}, NAMES, "cells")


def test_sizes_go_by_letter(image):
    assert image.shape == (3, 4, 5, 6)
    assert image.sizes == {"C": 3, "Z": 4, "Y": 5, "X": 6}


def test_pixels_come_in_the_order_asked_for(image):
    assert image.numpy() is image.array or np.shares_memory(image.numpy(), image.array)
    assert image.numpy("ZYXC")[1, 2, 3, 0] == image.array[0, 1, 2, 3]


def test_small_letters_are_capitals():
    assert Image(np.zeros((2, 3)), "yx").axes == "YX"


def test_axes_must_name_every_axis():
    with pytest.raises(ValueError, match=r"axes='ZYX' \(3 letters\) for an image with 2 axes"):
        Image(np.zeros((2, 3)), "ZYX")


def test_a_crop_is_a_view_that_keeps_what_is_known(image):
    part = image.crop({"X": (2, 5), "Z": (0, 1)})
    assert part.sizes == {"C": 3, "Z": 1, "Y": 5, "X": 3}
    assert np.shares_memory(part.array, image.array)
    np.testing.assert_array_equal(part.array, image.array[:, :1, :, 2:5])
    assert (part.voxel_size, part.channel_names, part.name) == (
        image.voxel_size,
        NAMES,
        "cells",
    )


@pytest.mark.parametrize("region", [{"X": (0, 7)}, {"X": (3, 3)}, {"X": (-1, 2)}, {"T": (0, 1)}])
def test_a_crop_outside_is_refused(image, region):
    letter = next(iter(region))
    with pytest.raises(ValueError, match=rf"region {letter}: .* is not inside cells with axes CZ"):
        image.crop(region)


@pytest.mark.parametrize(
    "channels, kept",
    [
        (None, NAMES),
        ([2, 0], ("AGP", "DNA")),
        ([1, 2], ("ER", "AGP")),
        (["ER"], ("ER",)),
        (["AGP", 0], ("AGP", "DNA")),
        ([1, 1], ("ER", "ER")),
    ],
)
def test_channels_go_by_index_or_name(image, channels, kept):
    part = image.select_channels(channels)
    assert part.channel_names == kept
    expected = image.array[[NAMES.index(name) for name in kept]]
    np.testing.assert_array_equal(part.numpy(), expected)


def test_a_run_of_channels_is_not_read(image):
    assert np.shares_memory(image.select_channels([1, 2]).array, image.array)


@pytest.mark.parametrize("channel", [3, -1, "RNA", 0.5])
def test_a_missing_channel_is_named_with_those_there_are(image, channel):
    text = f"cells has no channel {channel!r}: it has 3 .DNA, ER, AGP., counted from 0"
    with pytest.raises(ValueError, match=text):
        image.select_channels([channel])


def test_no_channel_at_all_is_refused(image):
    with pytest.raises(ValueError, match=r"cells is left with no channel: name at least one"):
        image.select_channels([])


def test_an_image_without_channels_has_one(noise):
    image = Image(noise(3, 4), "YX")
    assert image.select_channels([0]).shape == (3, 4)
    with pytest.raises(ValueError, match=r"no channel 1: it has 1 \(channel 0\)"):
        image.select_channels([1])


def test_an_image_comes_apart_along_an_axis(image):
    parts = image.split_along("Z")
    assert [part.axes for part in parts] == ["CYX"] * 4
    np.testing.assert_array_equal(parts[2].array, image.array[:, 2])
    assert np.shares_memory(parts[2].array, image.array)
    assert len({part.name for part in parts}) == 4
    assert image.split_along("T") == [image]


def test_a_channel_that_was_not_taken_is_nan_throughout(image):
    assert image.missing == (False, False, False)  # whole numbers cannot be missing
    array = image.array.astype(float)
    array[1] = np.nan
    array[2, 1, 1, 1] = np.nan  # a broken voxel is no missing channel
    assert Image(array, "CZYX").missing == (False, True, False)
    assert Image(np.moveaxis(array, 0, 1), "ZCYX").missing == (False, True, False)
    assert Image(np.moveaxis(array, 0, -1), "ZYXC").missing == (False, True, False)
    assert Image(array[1], "ZYX").missing == (True,)
    assert Image(array[0], "ZYX").missing == (False,)


def test_one_voxel_per_channel_tells_what_is_missing():
    class Lazy:
        shape, dtype, asked = (2, 50, 60), np.dtype("float32"), []

        def __getitem__(self, index):
            self.asked.append(index)
            return np.array([np.nan, 1.0])

    assert Image(Lazy(), "CYX").missing == (True, False)
    assert Lazy.asked == [(slice(None), 0, 0)]


def test_channels_have_the_names_of_the_file_or_their_numbers():
    assert Image(np.zeros((2, 4, 4)), "CYX", channel_names=("DNA", "ER")).names == ("DNA", "ER")
    assert Image(np.zeros((2, 4, 4)), "CYX").names == ("channel 0", "channel 1")
    assert Image(np.zeros((2, 4, 4)), "CYX", {}, ("DNA", "")).names == ("DNA", "channel 1")
    assert Image(np.zeros((4, 4)), "YX").names == ("channel 0",)


@pytest.mark.parametrize("channels", [[3], [3, 1], [3, 4]])
def test_a_channel_that_was_chosen_by_its_number_keeps_it(noise, channels):
    image = Image(noise(5, 3, 4), "CYX")
    part = image.select_channels(channels)
    assert part.channel_names == part.names == tuple(f"channel {i}" for i in channels)
    again = part.crop({"X": (1, 3)}).select_channels(["channel 3"])
    np.testing.assert_array_equal(again.array[0], image.array[3, :, 1:3])
    assert again.file_channels == image.names
    assert image.file_channels == ()
