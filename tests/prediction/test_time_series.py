"""Frames one after the other, and inputs on the voxels of the network."""

import json
import subprocess
import sys

import numpy as np
import pytest
from scipy import ndimage

from gvtnets_tf.images.image import Image
from gvtnets_tf.images.lazy_arrays import LazyArray, PagedArray
from gvtnets_tf.images.normalization import Affine, Normalizer
from gvtnets_tf.prediction import time_series
from gvtnets_tf.prediction.options import PredictionOptions
from gvtnets_tf.prediction.partial_results import Parts
from gvtnets_tf.prediction.predictor import Predictor
from gvtnets_tf.zoo.card import Card

PLAIN = Card(input_normalizer=Normalizer("none"), denormalize="none")
SCORE = Card(input_normalizer=Normalizer("zscore"), denormalize="none")
CUBES = {"Z": 0.3, "Y": 0.3, "X": 0.3}
FINE = {"Z": 0.6, "Y": 0.15, "X": 0.15}


class Model:
    """A network of NumPy that remembers what it saw."""

    def __init__(self, function=np.copy, divisor=1):
        self.function, self.divisor, self.seen = function, divisor, []

    def __call__(self, x):
        self.seen.append(x.copy())
        return self.function(x)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).poisson(100, shape).astype(np.float32)


def movie(*shape):
    """Frames that become brighter, so that frames and series have other statistics."""
    return noise(*shape) * np.arange(1, shape[0] + 1).reshape(-1, *(1,) * (len(shape) - 1))


@pytest.mark.parametrize("axes", ["TZYX", "TCZYX", "TZCYX", "ZTYX", "TYXZ"])
def test_a_series_is_what_its_frames_are(axes):
    sizes = {"T": 3, "C": 1, "Z": 4, "Y": 5, "X": 6}
    x = np.ascontiguousarray(noise(*(sizes[a] for a in axes)))
    image = Image(x, axes, {"T": 2.0, "Y": 0.1}, name="cells")
    predictor = Predictor(Model(lambda x: x**2), SCORE)
    (found,), info = time_series.predict_series(image, predictor)
    assert (found.axes, found.name, found.voxel_size) == (axes, "cells", {"T": 2.0, "Y": 0.1})
    for t in range(3):
        frame, said = predictor.predict(
            Image(np.take(x, t, axes.index("T")), axes.replace("T", ""))
        )
        np.testing.assert_array_equal(np.take(found.array, t, axes.index("T")), frame.array)
        assert info["statistics"][t] == said["statistics"][0]
    expected, told = predictor.predict(image)
    np.testing.assert_array_equal(found.array, expected.array)
    assert told == info
    assert (info["statistics_of"], len(info["statistics"])) == ("frame", 3)


@pytest.mark.parametrize("axes, to", [("TZYX", "TCZYX"), ("ZTYX", "CZTYX"), ("YXTZ", "CYXTZ")])
def test_channels_that_the_input_has_not_stand_before_the_grid(axes, to):
    sizes = {"T": 3, "Z": 4, "Y": 5, "X": 6}
    x = np.ascontiguousarray(noise(*(sizes[a] for a in axes)))
    predictor = Predictor(Model(lambda x: np.concatenate([x, 2 * x], -1)), PLAIN)
    (found,), _ = time_series.predict_series(Image(x, axes), predictor)
    assert found.axes == to
    np.testing.assert_array_equal(np.take(found.array, 1, to.index("C")), 2 * x)


def test_an_image_without_time_is_one_frame():
    image = Image(noise(4, 5, 6), "ZYX", {"Y": 0.1}, name="cells")
    predictor = Predictor(Model(lambda x: np.concatenate([x, 2 * x], -1)), SCORE)
    (found,), info = time_series.predict_series(image, predictor)
    expected, told = predictor.predict(image)
    assert (found.axes, found.name, info) == ("CZYX", "cells", told)
    np.testing.assert_array_equal(found.array, expected.array)


def test_statistics_are_those_of_a_frame_of_the_series_or_given():
    x, model = movie(3, 4, 6, 8), Model()
    image = Image(x, "TZYX", name="cells")
    predictor = Predictor(model, SCORE)
    (frame,), info = time_series.predict_series(image, predictor)
    assert info["statistics_of"] == "frame"
    np.testing.assert_allclose(frame.array.mean((1, 2, 3)), 0, atol=1e-5)
    (whole,), info = time_series.predict_series(image, predictor, statistics="series")
    assert info["statistics_of"] == "series"
    np.testing.assert_allclose(whole.array, (x - x.mean()) / x.std(), rtol=1e-4, atol=1e-5)
    assert info["statistics"] == [info["statistics"][0]] * 3
    (given,), info = time_series.predict_series(
        image, predictor, statistics=Affine(np.array([7.0]), np.array([2.0]))
    )
    assert info["statistics_of"] == "elsewhere"
    np.testing.assert_allclose(given.array, (x - 7) / 2, rtol=1e-6)
    with pytest.raises(ValueError, match=r"`statistics` cannot be 'frames'\. Did you mean 'frame'"):
        time_series.predict_series(image, predictor, statistics="frames")


def test_chosen_frames_alone_are_read_measured_and_predicted():
    x, model = movie(6, 4, 6, 8), Model()
    x[0] = np.nan
    image = Image(x, "TZYX", {"T": 2.0}, name="cells")
    (found,), info = time_series.predict_series(image, Predictor(model, SCORE), frames="-1:0:-2")
    assert (found.shape, len(model.seen)) == ((3, 4, 6, 8), 3)
    assert found.voxel_size == {"T": 4.0}
    offsets = [s["offset"][0] for s in info["statistics"]]
    assert offsets == pytest.approx([x[t].mean() for t in (5, 3, 1)], rel=1e-6)


def test_a_blank_frame_is_named_before_any_is_predicted():
    x, model = movie(4, 4, 6, 8), Model()
    x[3] = 5
    with pytest.raises(ValueError, match=r"frame 3 of cells is constant"):
        time_series.predict_series(Image(x, "TZYX", name="cells"), Predictor(model, SCORE))
    with pytest.raises(ValueError, match=r"frame 1 of cells\[::2\] is constant"):
        x[2] = 5
        time_series.predict_series(
            Image(x, "TZYX", name="cells"), Predictor(model, SCORE), frames="::2"
        )
    assert model.seen == []


def test_frames_of_unequal_size_are_refused_and_equal_ones_are_a_series():
    frames = list(noise(3, 4, 6, 8))
    predictor = Predictor(Model(), PLAIN)
    (found,), _ = time_series.predict_series(frames, predictor)
    np.testing.assert_array_equal(found.numpy("TZYX"), frames)
    with pytest.raises(ValueError, match=r"frame 3 has axes ZYX and shape \(4, 6, 9\), frame 0"):
        time_series.predict_series([*frames, noise(4, 6, 9)], predictor)


def test_resampled_predicted_and_back_on_the_grid_of_the_input():
    x = ndimage.gaussian_filter(noise(8, 40, 48), 3)
    image = Image(x, "ZYX", FINE, name="cells")
    model = Model(lambda x: 2 * x)
    predictor = Predictor(model, SCORE.changed(voxel_size=CUBES))
    (found,), info = time_series.predict_series(image, predictor, resample=True)
    # As published: the statistics are those of the volume before it was resampled.
    assert info["statistics"][0]["offset"] == pytest.approx([x.mean()], rel=1e-5)
    assert info["resampled_to"] == CUBES
    expected = ndimage.zoom((x - x.mean()) / x.std(), (2, 0.5, 0.5), order=3, mode="nearest")
    assert model.seen[0].shape == (1, 16, 20, 24, 1)
    np.testing.assert_allclose(model.seen[0][0, ..., 0], expected, rtol=1e-3, atol=1e-3)
    assert (found.shape, found.voxel_size) == (x.shape, FINE)
    np.testing.assert_allclose(found.array, 2 * (x - x.mean()) / x.std(), atol=0.05)


@pytest.mark.parametrize("axes", ["TZCYX", "CZTYX"])
def test_a_resampled_series_keeps_the_order_of_its_axes(axes):
    sizes = {"T": 2, "C": 2, "Z": 3, "Y": 8, "X": 10}
    x = np.ascontiguousarray(noise(*(sizes[a] for a in axes)))
    card = PLAIN.changed(voxel_size=CUBES)
    image = Image(x, axes, {**FINE, "T": 3.0})
    (found,), _ = time_series.predict_series(image, Predictor(Model(), card), resample=True)
    assert (found.axes, found.shape) == (axes, x.shape)
    assert found.voxel_size == {**FINE, "T": 3.0}


def test_a_resampled_projection_has_the_plane_of_the_input():
    card = PLAIN.changed(output_axes="YX", voxel_size=CUBES)
    image = Image(noise(5, 20, 24), "ZYX", FINE)
    (found,), _ = time_series.predict_series(
        image, Predictor(lambda x: x.mean(1), card), resample=True
    )
    assert (found.axes, found.shape) == ("YX", (20, 24))
    assert found.voxel_size == {"Y": 0.15, "X": 0.15}


def test_the_scale_is_brought_back_too():
    card = SCORE.changed(voxel_size=CUBES, probabilistic=True)
    predictor = Predictor(lambda x: np.concatenate([x, np.abs(x)], -1), card)
    image = Image(noise(2, 4, 20, 24), "TZYX", FINE)
    results, _ = time_series.predict_series(image, predictor, resample=True, uncertainty=True)
    assert [r.shape for r in results] == [image.shape] * 2
    assert results[1].array.mean() > 0.3


def test_without_resampling_another_voxel_size_is_said_once():
    predictor = Predictor(Model(), PLAIN.changed(voxel_size=CUBES))
    image = Image(noise(4, 4, 6, 8), "TZYX", FINE, name="cells")
    with pytest.warns(UserWarning, match=r"Z 0\.6 µm.*trained on Z 0\.3 µm") as said:
        time_series.predict_series(image, predictor)
    assert len({str(w.message) for w in said}) == 1


def test_what_cannot_be_resampled_is_refused_with_the_way_out():
    image, model = Image(noise(4, 6, 8), "ZYX", {"Z": 0.3, "Y": 0.15}, name="cells"), Model()
    known = Predictor(model, PLAIN.changed(voxel_size=CUBES))
    with pytest.raises(ValueError, match=r"cells has no voxel size along X.*--voxel-size"):
        time_series.predict_series(image, known, resample=True)
    with pytest.raises(ValueError, match=r"does not say the voxel size.*leave out --resample"):
        time_series.predict_series(image, Predictor(model, PLAIN), resample=True)
    assert model.seen == []


def test_a_stack_thinner_than_the_divisor_is_padded_by_reflection_and_that_is_said():
    model = Model(divisor=(8, 4, 4))
    image = Image(noise(3, 8, 8), "ZYX", name="cells")
    with pytest.warns(UserWarning, match=r"cells has 3 voxels along Z, fewer than 8, the least"):
        (found,), _ = time_series.predict_series(image, Predictor(model, PLAIN))
    np.testing.assert_array_equal(found.array, image.array)
    expected = np.pad(image.array, [(2, 3), (0, 0), (0, 0)], mode="reflect")
    np.testing.assert_array_equal(model.seen[0][0, ..., 0], expected)


def test_finished_frames_are_taken_from_where_they_wait(tmp_path):
    image = Image(noise(4, 3, 6, 8), "TZYX", {"T": 2.0, **FINE}, name="cells")
    model = Model(lambda x: np.concatenate([x, 3 * x], -1))
    predictor = Predictor(model, PLAIN.changed(probabilistic=True, output_channels=("dna",)))
    options = PredictionOptions(uncertainty=True)
    series = time_series.prepare(image, predictor.card, options)
    first = time_series.predict_frames(series, predictor, options, Parts(tmp_path, {}))
    assert len(model.seen) == 4
    again = time_series.predict_frames(series, predictor, options, Parts(tmp_path, {}))
    assert len(model.seen) == 4
    assert first[1] == again[1]
    for a, b in zip(first[0], again[0]):
        assert (a.axes, a.channel_names) == (b.axes, b.channel_names) == ("TZYX", ("dna",))
        assert a.voxel_size == pytest.approx(b.voxel_size)
        np.testing.assert_array_equal(a.array, b.array)


KILLED = """
import json, os, sys
import numpy as np
from gvtnets_tf.zoo.card import Card
from gvtnets_tf.images.image import Image
from gvtnets_tf.images.normalization import Normalizer
from gvtnets_tf.prediction import partial_results, time_series
from gvtnets_tf.prediction.options import PredictionOptions
from gvtnets_tf.prediction.predictor import Predictor
from pathlib import Path

calls, last = [], int(sys.argv[2])

def network(x):
    if len(calls) == last:
        os._exit(9)
    calls.append(x.shape)
    return x**2

x = np.random.default_rng(0).poisson(100, (5, 3, 6, 8))
predictor = Predictor(network, Card(input_normalizer=Normalizer("zscore"), denormalize="none"))
with partial_results.keep_parts(Path(sys.argv[1]), {}, resume=True) as kept:
    options = PredictionOptions()
    series = time_series.prepare(Image(x, "TZYX"), predictor.card, options)
    (result,), info = time_series.predict_frames(series, predictor, options, kept)
print(json.dumps([len(calls), result.array.tolist(), info]))
"""


def test_a_killed_run_goes_on_with_the_next_frame(tmp_path):
    def python(out, last):
        words = [sys.executable, "-c", KILLED, str(out), str(last)]
        return subprocess.run(words, capture_output=True, text=True, check=False)

    out = tmp_path / "a.tif"
    assert python(out, 2).returncode == 9
    assert [p.name for p in tmp_path.iterdir()] == [".a.tif.parts"]
    done = python(out, 9)
    assert done.returncode == 0, done.stderr
    calls, found, info = json.loads(done.stdout)
    assert calls == 3  # of five frames, two were there
    assert not list(tmp_path.iterdir())
    whole = json.loads(python(tmp_path / "b.tif", 9).stdout)
    assert (whole[0], whole[2]) == (5, info)
    np.testing.assert_array_equal(found, whole[1])


def test_an_input_beyond_the_memory_is_refused_before_it_is_read(tmp_path):
    pages = PagedArray(lambda _: pytest.fail("read"), (9, 100, 100), (100, 100), "uint16")
    for axes, size in (("ZYX", "175.8 KiB"), ("TYX", "19.5 KiB")):
        image = Image(LazyArray("cells.tif", pages, "TIFF"), axes, name="cells")
        card = Card(axes="ZYX" if axes == "ZYX" else "YX")
        text = (
            r"cells does not fit the memory: "
            rf"it takes {size} when it is read, and 19\.0 KiB may be used.*--max-memory"
        )
        with pytest.raises(ValueError, match=text):
            time_series.prepare(image, card, PredictionOptions(max_memory="19KiB"))


@pytest.mark.parametrize(
    "change, text",
    [
        ({"statistics": None}, r"`statistics of frame 1 in .*` must be a list of a mapping"),
        ({"statistics": [{"offset": "x"}]}, r"`statistics of frame 1 in .*Received: \[\{'offset"),
        ({"tile": "8"}, r"`tile of frame 1 in .*` must be a list of whole numbers or null"),
    ],
)
def test_a_damaged_record_of_a_kept_frame_is_named(tmp_path, change, text):
    frames, parts = noise(2, 3, 4, 5), Parts(tmp_path / "parts", {})
    model = Predictor(lambda x: x, Card(input_normalizer=Normalizer("zscore")))
    series = time_series.prepare(Image(frames, "TZYX"), model.card, PredictionOptions())
    time_series.predict_frames(series, model, PredictionOptions(), parts)
    images, info = parts.get(1)
    parts.put(1, images, {**info, **change})
    with pytest.raises(ValueError, match=text):
        time_series.predict_frames(series, model, PredictionOptions(), parts)
