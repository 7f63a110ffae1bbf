import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from gvtnets_tf.images import normalization
from gvtnets_tf.images.image import Image
from gvtnets_tf.images.normalization import Affine, Normalizer

MEASURED = ("percentile", "zscore", "unit")
images = arrays.arrays(
    np.uint16,
    arrays.array_shapes(min_dims=2, max_dims=4, min_side=2),
    elements=st.integers(0, 65535),
)


@given(image=images, kind=st.sampled_from([*MEASURED, "none", "fixed"]))
@settings(deadline=None, max_examples=60)
def test_undo_takes_apply_back(image, kind):
    channels = image.shape[-1]
    fixed = {"offset": range(channels), "gain": range(1, channels + 1)}
    rule = Normalizer(kind, 0.0, 100.0, **(fixed if kind == "fixed" else {}))
    flat = image.reshape(-1, channels)
    if kind in MEASURED and (flat.min(0) == flat.max(0)).any():
        with pytest.raises(ValueError, match=r"is constant.*: there is nothing to normalize by"):
            rule.measure(image)
        return
    affine = rule.measure(image)
    assert affine.offset.shape == affine.gain.shape == (channels,)
    there = affine.apply(image)
    assert there.dtype == np.float32
    np.testing.assert_allclose(affine.undo(there), image, rtol=1e-5, atol=0.1)


def test_percentiles_are_those_of_numpy_per_channel(noise):
    image = noise(5, 6, 7, 2) * [1, 10] + [0, 100]
    found = Normalizer().measure(image).apply(image)
    for channel in range(2):
        low, high = np.percentile(image[..., channel], (2, 99.8))
        expected = (image[..., channel] - low) / (high - low)
        np.testing.assert_allclose(found[..., channel], expected, rtol=1e-4, atol=1e-5)


def test_a_zscore_has_mean_zero_and_variance_one(noise):
    image = noise(5, 6, 7, 2) * [1, 10] + [0, 100]
    found = Normalizer("zscore").measure(image).apply(image).reshape(-1, 2)
    np.testing.assert_allclose(found.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(found.std(0, ddof=0), 1, rtol=1e-5)


def test_the_unit_rule_reaches_from_minus_one_to_one():
    affine = Normalizer("unit").measure(np.array([[10.0], [20.0], [30.0]]))
    np.testing.assert_allclose(affine.apply([[10], [15], [30]]).ravel(), [-1, -0.5, 1])


def test_fixed_numbers_are_used_as_given():
    affine = Normalizer("fixed", offset=100, gain=[20]).measure(np.zeros((3, 1)))
    np.testing.assert_allclose(affine.apply([[120.0]]), [[1.0]])
    np.testing.assert_allclose(affine.undo([[1.0]]), [[120.0]])


def test_none_changes_nothing(noise):
    image = noise(3, 4, 2)
    np.testing.assert_array_equal(Normalizer("none").measure(image).apply(image), image)


def test_several_images_are_measured_as_one(noise):
    parts = [noise(6, 5, 2), noise(3, 4, 5, 2) * 3 + 7]
    whole = np.concatenate([part.reshape(-1, 2) for part in parts])
    for kind in MEASURED:
        rule = Normalizer(kind, scope="dataset")
        one, many = rule.measure(whole), rule.measure(iter(parts))
        np.testing.assert_allclose(many.offset, one.offset, rtol=1e-6)
        np.testing.assert_allclose(many.gain, one.gain, rtol=1e-6)


def test_a_measured_map_can_be_stored(noise):
    image = noise(6, 5, 2)
    affine = Normalizer().measure(image)
    stored = Normalizer.parse(json.loads(json.dumps(Normalizer().from_affine(affine).to_dict())))
    assert stored.kind == "fixed"
    again = stored.measure(np.zeros((1, 1, 2)))
    np.testing.assert_array_equal(again.apply(image), affine.apply(image))


@pytest.mark.parametrize(
    "value", ["zscore", {"kind": "zscore"}, Normalizer("zscore"), Normalizer("zscore").to_dict()]
)
def test_a_rule_can_be_written_in_several_ways(value):
    assert Normalizer.parse(value) == Normalizer("zscore")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_numbers_are_counted(noise, bad):
    image = noise(4, 5, 1)
    image[0, :2] = bad
    with pytest.raises(ValueError, match=r"cells holds 2 values that are NaN or infinite, out of"):
        Normalizer().measure(image, name="cells")


@pytest.mark.parametrize("kind", MEASURED)
def test_a_constant_channel_is_named(noise, kind):
    image = noise(4, 5, 3)
    image[..., 1] = 0.1
    with pytest.raises(ValueError, match=f"Channel 1 of cells is constant.*{kind}.* around 0.1"):
        Normalizer(kind).measure(image, name="cells")


def test_an_image_that_is_dark_but_for_a_few_voxels_is_not_called_constant_without_a_reason():
    image = np.zeros((10, 100, 1), np.uint16)
    image[0, 0] = 900
    message = "Channel 0 of cells is constant from percentile 2 to 99.8: .* a spread of 0 around 0"
    with pytest.raises(ValueError, match=message):
        Normalizer().measure(image, name="cells")


@pytest.mark.parametrize("kind", [*MEASURED, "none"])
def test_a_mask_is_measured_as_zero_and_one(noise, kind):
    mask = noise(6, 5, 2) > 0
    found = Normalizer(kind).measure(mask)
    expected = Normalizer(kind).measure(mask.astype(np.uint8))
    np.testing.assert_array_equal(found.apply(mask), expected.apply(mask.astype(np.uint8)))


@pytest.mark.parametrize("dtype", ["complex64", "U3", "datetime64[s]"])
def test_what_is_no_real_number_is_refused(dtype):
    with pytest.raises(ValueError, match=r"cells must hold real numbers\. Received:"):
        Normalizer().measure(np.zeros((3, 1), dtype), name="cells")


@pytest.mark.parametrize("dtype", ["int32", "uint32", "float64"])
def test_counts_too_large_for_float32_are_normalized_without_loss(dtype):
    image = (2**30 + np.arange(1000)[:, None]).astype(dtype)
    found = Normalizer("zscore").measure(image).apply(image)
    expected = (np.arange(1000) - 499.5) / np.arange(1000).std()
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-6)


def test_voxels_drawn_from_a_large_image_lie_in_all_its_columns(monkeypatch):
    monkeypatch.setattr(normalization, "SAMPLES", 1000)
    image = np.tile(np.arange(64.0), 1000)[:, None]  # a step of 64 would meet one column only
    found = Normalizer("percentile", 0, 100).measure([image])
    assert (found.offset, found.gain) == (0, 63)


def test_an_empty_list_is_refused():
    with pytest.raises(ValueError, match="nothing to measure: targets is an empty list"):
        Normalizer().measure([], name="targets")


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"kind": "zscores"}, "`normalize` cannot be 'zscores'. Did you mean 'zscore'"),
        ({"scope": "images"}, "`scope` cannot be 'images'. Did you mean 'image'"),
        ({"low": 50, "high": 50}, "0 <= low < high <= 100. Received: low=50, high=50"),
        ({"low": -1}, "Received: low=-1"),
        ({"kind": "fixed"}, "needs one offset and one gain per channel"),
        ({"kind": "fixed", "offset": [1, 2], "gain": [1]}, r"offset=\(1.0, 2.0\), gain=\(1.0,\)"),
        ({"kind": "fixed", "offset": [1], "gain": [0]}, "`gain` must not be zero"),
        ({"king": "fixed"}, "`key of normalize` cannot be 'king'. Did you mean 'kind'"),
    ],
)
def test_arguments_that_do_not_fit_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        Normalizer.parse(arguments)


def test_stored_numbers_are_for_as_many_channels():
    rule = Normalizer("fixed", offset=[1, 2], gain=[1, 1])
    with pytest.raises(ValueError, match=r"is for 2 channels. Received: an image with 3"):
        rule.measure(np.zeros((4, 3)))


# Images with channels that were not taken.


def labels(*channels, name="well"):
    """An image of 6 x 7 pixels; `None` is a label that is missing."""
    rng = np.random.default_rng(0)
    planes = [
        np.full((6, 7), np.nan) if c is None else c + rng.normal(size=(6, 7)) for c in channels
    ]
    return Image(np.stack(planes).astype(np.float32), "CYX", name=name)


@pytest.mark.parametrize("kind", MEASURED)
def test_images_are_measured_as_their_arrays(kind):
    whole = [labels(1, 50), labels(3, 70)]
    arrays = [image.numpy("YXC") for image in whole]
    rule = Normalizer(kind)
    for found, expected in (
        (rule.measure_images(whole, "x"), rule.measure(iter(arrays))),
        (rule.measure_images(whole[:1], "x"), rule.measure(arrays[0])),
    ):
        np.testing.assert_array_equal(found.offset, expected.offset)
        np.testing.assert_array_equal(found.gain, expected.gain)


@pytest.mark.parametrize("kind", MEASURED)
def test_a_channel_is_measured_where_it_was_taken(kind):
    images = [labels(1, None, None), labels(3, 70, None), labels(None, 90, None)]
    rule = Normalizer(kind)
    found = rule.measure_images(images, "the training targets")
    assert found.offset.shape == found.gain.shape == (3,)
    for c, taken in ((0, images[:2]), (1, images[1:])):
        alone = rule.measure(i.numpy("YXC")[..., [c]] for i in taken)
        assert (found.offset[c], found.gain[c]) == (alone.offset, alone.gain)
    # One that nobody took keeps its values.
    assert (found.offset[2], found.gain[2]) == (0, 1)
    assert np.isnan(found.apply(images[0].numpy("YXC"))[..., 1:]).all()
    assert np.isfinite(found.apply(images[0].numpy("YXC"))[..., 0]).all()


def test_one_channel_at_a_time_is_measured_with_stored_numbers_too():
    rule = Normalizer("fixed", offset=[1, 2, 3], gain=[4, 5, 6])
    for image in (labels(1, None, 2), labels(None, None, None), labels(1, 1, 1)):
        found = rule.measure_images([image], "targets")
        np.testing.assert_array_equal(found.offset, [1, 2, 3])
        np.testing.assert_array_equal(found.gain, [4, 5, 6])
    for image in (labels(1, None), labels(1, None, 2, 3), labels(1, 2)):
        count = image.shape[0]
        with pytest.raises(ValueError, match=f"is for 3 channels. Received: an image with {count}"):
            rule.measure_images([image], "targets")


@pytest.mark.parametrize("place", [(1, 0, 0), (1, 3, 3)], ids=["first pixel", "another"])
@pytest.mark.parametrize("kind", [*MEASURED, "none", "fixed"])
def test_a_channel_that_is_missing_in_part_is_refused(kind, place):
    rule = Normalizer(kind, offset=[0, 0], gain=[1, 1]) if kind == "fixed" else Normalizer(kind)
    broken = labels(1, 50)
    broken.array[place] = np.nan
    for others in ([], [labels(1, 50)], [labels(None, 50)]):
        with pytest.raises(ValueError, match=r"targets.* holds 1 values that are NaN or infinite"):
            rule.measure_images([*others, broken], "targets")
    broken = labels(1, 50)
    broken.array[1] = np.nan
    broken.array[1, 5, 5] = 3  # all but one pixel
    with pytest.raises(ValueError, match=r"targets, channel 1 holds 41 values that are NaN"):
        rule.measure_images([broken], "targets")


def test_a_constant_channel_is_named_by_its_number_beside_missing_ones():
    constant = labels(None, 5)
    constant.array[1] = 7
    with pytest.raises(ValueError, match=r"targets, channel 1 is constant.*around 7"):
        Normalizer().measure_images([constant], "targets")


@pytest.mark.parametrize("other", [labels(1), labels(1, None, 3)])
def test_images_that_differ_in_their_channels_are_not_measured_together(other):
    with pytest.raises(ValueError, match=r"the targets must have equally many channels. Rec"):
        Normalizer().measure_images([labels(1, 2), other], "the targets")


def test_no_image_at_all_is_refused():
    with pytest.raises(ValueError, match="nothing to measure: targets is an empty list"):
        Normalizer().measure_images([], name="targets")


def test_numbers_beyond_float32_are_refused_by_name():
    x = np.array([[1.0], [-1e39], [3.0]])
    text = r"cells holds values up to 1e\+39, and networks compute in float32, to 3\.4\d*e\+38: sc"
    with pytest.raises(ValueError, match=text):
        Normalizer("none").measure(x, "cells")
    Normalizer("none").measure(x / 10, "cells")


@pytest.mark.parametrize("way", ["apply", "undo"])
def test_a_normalization_that_overflows_is_an_error(way):
    gain = {"apply": 1e-20, "undo": 1e20}[way]
    affine, x = Affine(np.array([0.0]), np.array([gain])), np.float32([[1e20], [1.0]])
    text = r"Values up to 1e\+40 are beyond float32, with offset \[0\.\] and gain \[1\.e.20\]: sca"
    with pytest.raises(ValueError, match=text):
        getattr(affine, way)(x)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["offset", "gain"])
def test_stored_numbers_are_finite(name, value):
    with pytest.raises(ValueError, match=r"`offset` and `gain` must be finite numbers\. Received"):
        Normalizer("fixed", **{"offset": 0.0, "gain": 1.0, name: value})
