import json
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, special

from gvtnets_tf.data import multiscale
from gvtnets_tf.images import limits
from gvtnets_tf.images.image import Image
from gvtnets_tf.images.normalization import Affine, Normalizer
from gvtnets_tf.prediction.predictor import Predictor
from gvtnets_tf.zoo.card import Card


class Model:
    """A network of NumPy: `function` of a float array `(batch, *grid, channels)`."""

    def __init__(self, function=np.array, divisor=1, operators=()):
        self.function, self.divisor = function, divisor
        self.operators = dict.fromkeys(operators)
        self.shapes = []

    def __call__(self, x):
        assert x.dtype == np.float32
        self.shapes.append(x.shape)
        return self.function(x)


def local(x):
    """Three 3x3x3 convolutions with a nonlinearity: sees three voxels to each side."""
    kernel = np.random.default_rng(1).normal(size=(1, 3, 3, 3, 1)).astype(np.float32) / 5
    for _ in range(3):
        x = np.tanh(ndimage.convolve(x, kernel, mode="constant"))
    return x


def strided(x):
    """What a network that halves twice does: every voxel becomes the mean of its block of 4."""
    blocks = x.reshape(len(x), x.shape[1] // 4, 4, x.shape[2] // 4, 4, -1).mean((2, 4))
    return blocks.repeat(4, 1).repeat(4, 2)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).poisson(100, shape).astype(np.uint16)


PLAIN = Card(input_normalizer=Normalizer("none"), denormalize="none")
FLAT = Card(axes="YX", output_axes="YX", input_normalizer=Normalizer("none"), denormalize="none")


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_an_identity_gives_back_the_input_for_any_axes_shape_and_tile(data):
    axes = "".join(data.draw(st.permutations(data.draw(st.sampled_from(["YX", "ZYX", "TCZYX"])))))
    if len(axes) > 3:
        axes = "".join(a for a in axes if a in "ZYX" or data.draw(st.booleans()))
    own = data.draw(st.sampled_from(["ZYX", "YX"] if "Z" in axes else ["YX"]))
    shape = [data.draw(st.integers(2, 9 if a in "ZYX" else 3)) for a in axes]
    kind = data.draw(st.sampled_from(["percentile", "zscore", "unit", "none"]))
    card = Card(axes=own, output_axes=own, input_normalizer=Normalizer(kind), denormalize="input")
    options = {"batch_size": data.draw(st.integers(1, 3))}
    if data.draw(st.booleans()):
        options |= {"tile": 4, "overlap": data.draw(st.integers(0, 2))}
        options |= {"blend": data.draw(st.sampled_from(["crop", "average", "ramp"]))}
    image = noise(*shape)
    image.flat[::2] += 50  # No channel of no frame is constant.
    result = Predictor(Model(divisor=2), card)(image, axes, **options)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, image, rtol=1e-5)


@pytest.mark.parametrize("batch", [1, 3])
def test_tiles_of_a_local_network_equal_the_whole_where_the_halo_covers_what_it_sees(batch):
    image = noise(11, 37, 41)
    predictor = Predictor(Model(local), Card(denormalize="input"))
    whole = predictor(image, whole=True)
    np.testing.assert_array_equal(
        predictor(image, tile=(9, 16, 20), overlap=6, batch_size=batch), whole
    )
    assert {s[0] for s in predictor.model.shapes[1:]} <= {1, batch, *range(batch)}
    # A halo that is too small shows: the comparison above could have failed.
    assert np.abs(predictor(image, tile=(9, 16, 20), overlap=0) - whole).max() > 0.1


def test_tiles_begin_where_a_striding_network_sees_the_same_phase():
    image = noise(45, 61)
    predictor = Predictor(Model(strided, divisor=(4, 4)), FLAT)
    whole = predictor(image)
    np.testing.assert_array_equal(predictor(image, tile=18, overlap=3), whole)
    assert predictor.model.shapes[1] == (1, 20, 20, 1)


@pytest.mark.parametrize("blend", ["crop", "average", "ramp"])
def test_statistics_are_those_of_the_image_not_of_the_tile(blend):
    image = np.linspace(0, 4000, 40)[:, None] + noise(40, 40)
    card = Card(
        axes="YX", output_axes="YX", input_normalizer=Normalizer("zscore"), denormalize="none"
    )
    predictor = Predictor(Model(), card)
    tiled, info = predictor.predict(Image(image, "YX"), tile=12, blend=blend)
    expected = ((image - image.mean()) / image.std()).astype(np.float32)
    np.testing.assert_allclose(tiled.array, expected, rtol=1e-5, atol=1e-6)
    assert info["statistics"] == [{"offset": [image.mean()], "gain": [image.std()]}]


def test_an_average_is_the_mean_of_the_tiles_that_saw_a_voxel():
    answers = iter([1, 5])
    predictor = Predictor(Model(lambda x: np.full_like(x, next(answers))), FLAT)
    result = predictor(noise(2, 10), tile=(2, 6), overlap=2, blend="average")
    np.testing.assert_allclose(result, [[1, 1, 1, 1, 3, 3, 5, 5, 5, 5]] * 2)


@pytest.mark.parametrize("blend", ["crop", "average"])
def test_tiles_take_one_accumulator_and_a_padded_copy_of_the_input(blend):
    image = noise(31, 250, 250)
    predictor = Predictor(Model(lambda x: x, divisor=8), PLAIN)
    tracemalloc.start()
    try:
        predictor(image, tile=32, blend=blend)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    voxels = 32 * 256 * 256
    # uint16 padded, float32 sum; the rest (float64 while normalizing) is a tile large.
    assert peak < (2 + 4) * voxels + 64 * 32**3


@pytest.mark.filterwarnings("ignore:.*fewer than")
def test_sizes_that_the_network_cannot_halve_are_padded_and_cropped_back():
    model = Model(divisor=(8, 8, 8))
    image = noise(1, 30, 17)
    np.testing.assert_array_equal(Predictor(model, PLAIN)(image), image)
    assert model.shapes == [(1, 8, 32, 24, 1)]


def test_planes_of_a_stack_go_through_a_network_of_planes_several_at_a_time():
    model = Model(lambda x: x - x.mean((1, 2), keepdims=True))
    stack = noise(5, 8, 9)
    result = Predictor(model, FLAT)(stack, "ZYX", batch_size=2)
    np.testing.assert_allclose(result, stack - stack.mean((1, 2), keepdims=True), atol=1e-4)
    assert [s[0] for s in model.shapes] == [2, 2, 1]


def test_each_frame_of_a_time_series_has_its_own_statistics_unless_some_are_given():
    series = noise(3, 8, 8) * np.array([1, 10, 100])[:, None, None]
    card = Card(
        axes="YX", output_axes="YX", input_normalizer=Normalizer("zscore"), denormalize="none"
    )
    predictor = Predictor(Model(), card)
    result, info = predictor.predict(Image(series, "TYX"))
    np.testing.assert_allclose(result.array.mean((1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(result.array.std((1, 2)), 1, atol=1e-5)
    assert [s["offset"][0] for s in info["statistics"]] == list(series.mean((1, 2)))
    given = Affine(np.array([2.0]), np.array([4.0]))
    np.testing.assert_allclose(
        predictor(series, "TYX", statistics=given), (series - 2) / 4, rtol=1e-6
    )


def test_frames_are_read_one_at_a_time():
    class Lazy:
        shape, dtype, seen = (3, 4, 4), np.dtype(float), []

        def __getitem__(self, index):
            self.seen.append(index)
            return np.arange(48.0).reshape(self.shape)[index]

    result, _ = Predictor(Model(), FLAT).predict(Image(Lazy(), "TYX"))
    np.testing.assert_array_equal(result.array.ravel(), np.arange(48))
    assert [index[0] for index in Lazy.seen] == [0, 1, 2] * 2  # measured, then predicted


@pytest.mark.parametrize(
    "value, message", [(7.0, "frame 3 of the image is constant"), (np.nan, "frame 3 .* holds 64")]
)
def test_a_frame_that_cannot_be_predicted_is_named_before_any_is(value, message):
    model, series = Model(), noise(5, 8, 8).astype(float)
    series[3] = value
    card = Card(axes="YX", output_axes="YX", input_normalizer=Normalizer("zscore"))
    with pytest.raises(ValueError, match=message):
        Predictor(model, card)(series, "TYX")
    assert model.shapes == []


@pytest.mark.parametrize("denormalize, known", [("input", 2), ("stored", 3)])
def test_units_for_another_number_of_channels_are_refused_before_the_first_call(denormalize, known):
    model = Model(lambda x: x[..., :1])
    target = Normalizer("fixed", offset=(0,) * known, gain=(1,) * known)
    card = FLAT.changed(target_normalizer=target, denormalize=denormalize, output_channels=("a",))
    with pytest.raises(ValueError, match=rf"result has 1 channels.*the units of {known}"):
        Predictor(model, card)(noise(2, 8, 8), "CYX")
    assert model.shapes == []
    if denormalize == "input":
        shared = Affine(np.zeros(1), np.ones(1))  # one map for both is a map for one
        assert Predictor(model, card)(noise(2, 8, 8), "CYX", statistics=shared).shape == (1, 8, 8)


def project(x):
    return x.mean(1)


@pytest.mark.parametrize("options", [{}, {"tile": 32}, {"tile": (9, 32, 48), "overlap": 8}])
def test_a_projection_drops_z_and_its_tiles_hold_the_stack(options):
    stack = noise(2, 5, 40, 50)
    card = Card(output_axes="YX", input_normalizer=Normalizer("none"), denormalize="none")
    model = Model(project, divisor=(1, 16, 16))
    image = Image(stack, "TZYX", voxel_size={"Z": 2.0, "Y": 0.5, "X": 0.5})
    result, _ = Predictor(model, card).predict(image, **options)
    assert (result.axes, result.voxel_size) == ("TYX", {"Y": 0.5, "X": 0.5})
    np.testing.assert_allclose(result.array, stack.mean(1), rtol=1e-6)
    assert {s[1] for s in model.shapes} == {5}


def two(x):
    return np.concatenate([x, 2 * x], -1)


@pytest.mark.parametrize(
    "shape, axes, to, out",
    [
        ((8, 9), "YX", "CYX", (2, 8, 9)),
        ((3, 4, 8, 9), "TZYX", "TCZYX", (3, 2, 4, 8, 9)),
        ((4, 8, 9, 1), "ZYXC", "ZYXC", (4, 8, 9, 2)),
    ],
)
def test_several_channels_stand_where_the_input_had_them_or_before_the_grid(shape, axes, to, out):
    card = Card(
        axes="YX",
        output_axes="YX",
        input_normalizer=Normalizer("zscore"),
        output_channels=("DNA", "ER"),
        denormalize="input",
    )
    image = Image(noise(*shape), axes)
    result, _ = Predictor(Model(two), card).predict(image, whole=True)
    assert (result.axes, result.shape, result.channel_names) == (to, out, ("DNA", "ER"))
    first = np.take(result.array, 0, to.index("C"))
    np.testing.assert_allclose(first, image.array.reshape(first.shape), rtol=1e-5)


def test_one_channel_of_many_keeps_its_axis_and_takes_the_stored_units():
    card = Card(
        input_normalizer=Normalizer("fixed", offset=(0, 0), gain=(1, 1)),
        target_normalizer=Normalizer("fixed", offset=(7,), gain=(3,)),
        denormalize="stored",
    )
    image = noise(2, 3, 4, 5)
    result = Predictor(Model(lambda x: x[..., :1]), card)(image, "CZYX")
    np.testing.assert_array_equal(result, image[:1] * 3.0 + 7)


def test_a_probabilistic_network_gives_its_scale_in_the_units_of_the_image():
    card = Card(input_normalizer=Normalizer("fixed", offset=(10,), gain=(4,)), probabilistic=True)
    model = Model(lambda x: np.concatenate([x, np.full_like(x, 0.5)], -1))
    predictor, image = Predictor(model, card), noise(4, 12, 12)
    location, scale = predictor(image, uncertainty=True, tile=8, blend="average")
    np.testing.assert_allclose(location, image, rtol=1e-6)
    np.testing.assert_allclose(scale, 2.0, rtol=1e-6)
    np.testing.assert_allclose(predictor(image), image, rtol=1e-6)
    (one, other), _ = predictor.predict(Image(image, "ZYX", {"Y": 0.1}), uncertainty=True)
    assert one.axes == other.axes == "ZYX"
    assert one.voxel_size == other.voxel_size == {"Y": 0.1}


def test_how_it_was_done_is_told_in_values_that_json_can_hold():
    model = Model(divisor=4, operators=["bottom.0", "up.1"])
    predictor, image = Predictor(model, PLAIN), Image(noise(8, 20, 20), "ZYX", name="cells")
    result, info = predictor.predict(image)
    assert result.name == "cells"
    assert json.loads(json.dumps(info)) == {
        "mode": "whole",
        "tile": None,
        "overlap": None,
        "blend": None,
        "denormalize": "none",
        "units": "normalized",
        "statistics": [{"offset": [0.0], "gain": [1.0]}],
    }
    _, info = predictor.predict(image, tile=(8, 10, 10), overlap=(0, 3, 4), blend="average")
    assert (info["mode"], info["tile"]) == ("tiles", [8, 12, 12])
    assert (info["overlap"], info["blend"]) == ([0, 4, 4], "average")
    assert "bottom.0, up.1" in info["note"]
    _, info = predictor.predict(image, tile=100)
    assert info["mode"] == "whole"
    assert "note" not in info


def test_what_does_not_fit_is_known_before_the_first_call_and_says_which_tile_does():
    model = Model(divisor=8)
    predictor = Predictor(model, PLAIN.changed(bytes_per_voxel=1000.0))
    image = Image(noise(16, 60, 60), "ZYX", name="cells")
    expected = (
        r"cells does not fit the memory: 1 x \(16, 64, 64\) voxels need about 62.5 MiB "
        r"\(1000 bytes per voxel\), and 19.1 MiB may be used. "
        r"Predict in tiles with --tile 16 32 32 \(`tile=\(16, 32, 32\)`\)"
    )
    with pytest.raises(ValueError, match=expected):
        predictor.predict(image, max_memory="20MB", whole=True)
    assert model.shapes == []
    result, _ = predictor.predict(image, max_memory="20MB", tile=(16, 32, 32))
    np.testing.assert_array_equal(result.array, image.array)
    with pytest.raises(ValueError, match=r"4 x \(16, 32, 32\).*--tile 16 16 16"):
        predictor.predict(image, max_memory="20MB", tile=(16, 32, 32), batch_size=4)
    with pytest.raises(ValueError, match=r"No tile is small enough: allow more with --max-memory"):
        predictor.predict(image, max_memory="1MB")


def test_memory_is_measured_once_on_a_probe_and_never_on_the_image(monkeypatch):
    model = Model(divisor=4)
    monkeypatch.setattr(limits, "measure_available", lambda: 10_000)
    predictor, image = Predictor(model, PLAIN), noise(64, 64, 64)
    for _ in range(2):
        with pytest.raises(ValueError, match="--tile"):
            predictor(image, tile=64, max_memory=8_000)
    assert [s[1:4] for s in model.shapes] == [(4, 4, 4), (8, 8, 8), (32, 64, 64)]
    np.testing.assert_array_equal(predictor(image, whole=True), image)
    with pytest.raises(ValueError, match="--tile"):  # whatever was predicted before
        predictor(image, tile=64, max_memory=8_000)


def test_memory_that_a_call_has_left_with_the_process_does_not_look_taken(monkeypatch):
    monkeypatch.setattr(limits, "measure_available", lambda: 10**9)
    predictor = Predictor(Model(), PLAIN.changed(bytes_per_voxel=100.0))
    monkeypatch.setattr(limits, "measure_available", lambda: 10_000)
    for _ in range(2):
        predictor(noise(4, 8, 8))


def test_a_small_image_is_checked_too_where_nothing_need_be_measured(monkeypatch):
    monkeypatch.setattr(limits, "measure_available", lambda: 10_000)
    model = Model()
    Predictor(model, PLAIN.changed(bytes_per_voxel=100.0))(noise(4, 8, 8))
    assert {shape[1:4] for shape in model.shapes} == {(4, 4, 4)}


@pytest.mark.parametrize("operators", [(), ("bottom.0",)])
def test_an_image_too_large_is_predicted_in_tiles_and_that_is_said(caplog, operators):
    model = Model(divisor=8)
    model.operators = operators
    predictor = Predictor(model, PLAIN.changed(bytes_per_voxel=1000.0))
    image = Image(noise(16, 60, 60), "ZYX", name="cells")
    result, info = predictor.predict(image, max_memory="20MB")
    np.testing.assert_array_equal(result.array, image.array)
    assert (info["mode"], info["tile"]) == ("tiles", [16, 32, 32])
    assert {shape[1:4] for shape in model.shapes} == {(16, 32, 32)}
    (said,) = [record.message for record in caplog.records if record.name == "gvtnets_tf"]
    assert said.startswith(
        "cells does not fit the memory: it needs about 62.5 MiB, and 19.1 MiB may be used. It is "
        "predicted in tiles of (16, 32, 32) voxels."
    )
    note = "The network looks at the whole image at once (bottom.0), and sees only a tile: the"
    assert (note in said, "note" in info) == (bool(operators), bool(operators))
    caplog.clear()
    predictor.predict(image, max_memory="1GB")
    assert not caplog.records


def test_an_image_no_larger_than_the_probe_is_not_measured_first(monkeypatch):
    model = Model()
    monkeypatch.setattr(limits, "measure_available", lambda: 10**9)
    Predictor(model, PLAIN)(noise(32, 64, 64))
    assert model.shapes == [(1, 32, 64, 64, 1)]


def bad(array=None, axes="ZYX", model=None, card=PLAIN, **options):
    array = noise(4, 8, 8) if array is None else array
    return lambda: Predictor(model or Model(), card)(array, axes, **options)


NAN = np.where(np.arange(256.0).reshape(4, 8, 8) == 7, np.nan, 1.0)
PAIR = PLAIN.changed(input_channels=("phase", "DIC"))
SCALE = PLAIN.changed(probabilistic=True)
LARGE = {"denormalize": "stored", "target_statistics": {"offset": [0.0], "gain": [1e9]}}
ERRORS = {
    "axes": (bad(axes="ZYQ"), r"`axes` must be distinct letters"),
    "rank": (bad(axes="YX"), r"`axes` must name each axis.*'YX' \(2 letters\).*3 axes"),
    "missing": (bad(noise(8, 8), "YX"), r"reads ZYX images, and the image lacks axis Z"),
    "empty": (bad(noise(0, 8, 8)), r"is empty. Received: shape=\(0, 8, 8\)"),
    "channels": (bad(card=PAIR), r"does not name its channels, .* reads 2 \(phase, DIC\)\."),
    "nan": (bad(NAN), r"the image holds 1 values that are NaN or infinite"),
    "nan, given": (
        bad(NAN, statistics=Affine(np.zeros(1), np.ones(1))),
        r"the image holds 1 values that are NaN",
    ),
    "result nan": (
        bad(model=Model(lambda x: np.where(x > x.min(), x, np.float32(np.nan)))),
        r"The prediction of the image holds \d+ values that are NaN or infinite, out of 256\.",
    ),
    "result too large": (
        bad(model=Model(lambda x: x + np.float32(3e38)), card=PLAIN.changed(**LARGE)),
        r"The prediction of the image: Values up to 3e\+47 are beyond float32, with offset",
    ),
    "result infinite": (
        bad(model=Model(lambda x: x + np.float32(np.inf)), tile=4),
        r"holds 256 values that are NaN or infinite, out of 256\. .*are the intensities, axes",
    ),
    "constant": (
        bad(np.ones((2, 4, 4)), card=Card()),
        r"constant.*: there is nothing to normalize",
    ),
    "frame": (
        bad(np.stack([noise(2, 4, 4), np.ones((2, 4, 4))]), "TZYX", card=Card()),
        r"frame 1 of the image is constant",
    ),
    "statistics": (
        bad(statistics=Affine(np.zeros(3), np.ones(3))),
        r"`statistics` are for 3 channels, and the image has 1",
    ),
    "uncertainty": (bad(uncertainty=True), r"predicts no scale: `uncertainty` needs one that"),
    "odd scale": (bad(card=SCALE), r"a location and a scale per channel. Received: 1 channels"),
    "blend": (bad(blend="crops"), r"`blend` cannot be 'crops'. Did you mean 'crop'"),
    "batch": (bad(batch_size=0), r"`batch_size` must be at least 1"),
    "both": (bad(tile=4, whole=True), r"Pass `whole` or `tile`, not both"),
    "overlap": (bad(overlap=4), r"`overlap` is of tiles: pass `tile` too"),
    "halo": (
        bad(tile=(4, 4, 4), overlap=4),
        r"tile of 4 voxels along Y has nothing left between two margins of 2",
    ),
    "size": (bad(max_memory="much"), r"such as 4GiB or 500MB. Received: 'much'"),
    "grid": (
        bad(model=Model(lambda x: x[:, ::2])),
        r"answers images of shape \(1, 4, 8, 8, 1\) with shape \(1, 2, 8, 8, 1\)",
    ),
    "names": (
        bad(card=PLAIN.changed(output_channels=("a", "b"))),
        r"names 2 output channels \(a, b\), and the model answers with 1",
    ),
    "units": (
        bad(
            noise(2, 4, 8, 8),
            "CZYX",
            model=Model(lambda x: np.repeat(x[..., :1], 3, -1)),
            card=PLAIN.changed(denormalize="input"),
        ),
        r"result has 3 channels and cannot take the units of 2 \(`denormalize` is 'input'\)",
    ),
    "divisor": (bad(model=Model(divisor=(4, 4))), r"`model.divisor` is one number, or one for"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_what_cannot_be_predicted_is_refused_by_name(case):
    predict, message = ERRORS[case]
    with pytest.raises(ValueError, match=message):
        predict()


def test_another_voxel_size_is_a_warning_that_names_both(recwarn):
    predictor = Predictor(Model(), PLAIN.changed(voxel_size={"Z": 0.3, "Y": 0.1, "X": 0.1}))
    array = noise(4, 8, 8)
    predictor.predict(Image(array, "ZYX", {"Z": 0.3, "Y": 0.109, "X": 0.091}))
    predictor.predict(Image(array, "ZYX"))
    assert not recwarn.list
    with pytest.warns(UserWarning, match=r"of Y 0\.2 µm, and the model was trained on Y 0\.1 µm"):
        predictor.predict(Image(array, "ZYX", {"Z": 0.3, "Y": 0.2, "X": 0.1}))


def test_progress_is_shown_on_standard_error_only_where_it_is_asked_for(capsys):
    predictor, series = Predictor(Model(), FLAT), noise(3, 8, 8)
    predictor(series, "TYX", tile=4, overlap=0)
    assert capsys.readouterr() == ("", "")
    for axes, count in (("TYX", "0/3 ["), ("ZYX", "12/12 [")):  # frames of a series, else tiles
        predictor(series, axes, tile=4, overlap=0, progress=True)
        captured = capsys.readouterr()
        assert captured.out == ""
        assert count in captured.err


def test_a_keras_model_is_called_for_inference_and_checks_its_channels():
    import keras

    image = keras.Input((None, None, 2))
    x = keras.layers.BatchNormalization(epsilon=0)(image)
    model = keras.Model(image, keras.layers.Dropout(0.5)(x))
    predictor = Predictor(model, FLAT)
    pixels = noise(2, 12, 15)
    # Fresh moving statistics are 0 and 1: only in training would anything change.
    np.testing.assert_allclose(predictor(pixels, "CYX", tile=8), pixels, rtol=1e-6)
    with pytest.raises(
        ValueError, match=r"reads 2 channels, and the image has 1 \(channel 0\): choose"
    ):
        predictor(pixels[0], "YX")


def test_a_subclassed_keras_model_tells_its_channels_once_it_is_built():
    import keras

    class Twice(keras.Model):
        divisor = (2, 2)

        def call(self, images):
            return 2 * images

    model = Twice()
    model(np.ones((1, 4, 4, 3), np.float32))
    predictor, pixels = Predictor(model, FLAT), noise(3, 5, 7)
    np.testing.assert_array_equal(predictor(pixels, "CYX"), 2 * pixels)
    with pytest.raises(ValueError, match="reads 3 channels, and the image has 1"):
        predictor(pixels[0])


# Windows, distributions, labels.


def certain(values, classes=11):
    """Logits of a network that is sure of these values from 0, the first class, to 1, the last."""
    chosen = np.round(np.asarray(values) * (classes - 1)).astype(int)
    return np.where(np.arange(classes) == chosen[..., None], 50, 0).astype(np.float32)


class Staining(Model):
    """A network of three labels, sure of 0.1 x, 0.5 and 0.9 of a class map of its first channel."""

    labels = (0, 1, 2)

    def select_outputs(self, labels):
        part = Staining(self.function)
        part.labels, part.shapes = tuple(self.labels[i] for i in labels), self.shapes
        return part

    def __call__(self, x):
        self.shapes.append(x.shape)
        return self.function(x)[..., list(self.labels), :]


def three(x):
    first = np.clip(x[..., 0], 0, 1)
    return certain(np.stack([first, np.full_like(first, 0.5), 1 - first], -1))


WINDOWS = Card(
    axes="YX",
    output_axes="YX",
    input_normalizer=Normalizer("fixed", offset=(0,), gain=(10,)),
    target_normalizer=Normalizer("fixed", offset=(100, 0, 7), gain=(1000, 2, 1)),
    denormalize="stored",
    output_channels=("DAPI", "MAP2", "NFH"),
    scales=(1, 2, 0.5),
    tile=(8, 8),
    classes=11,
    bytes_per_voxel=100.0,  # so that nothing is measured first
)


def tens(*shape):
    """Counts that are one of the eleven classes."""
    return np.random.default_rng(0).integers(0, 11, shape).astype(np.uint16)


@pytest.mark.filterwarnings("ignore:.*fewer than")
@pytest.mark.parametrize("blend", [None, "crop", "average", "ramp"])
@pytest.mark.parametrize("shape", [(8, 8), (24, 16), (21, 30), (5, 30), (3, 2)])
def test_a_sure_network_of_windows_gives_each_pixel_back_for_any_size(shape, blend):
    model, image = Staining(three, divisor=(4, 4)), tens(*shape)
    result = Predictor(model, WINDOWS)(image, blend=blend, batch_size=3)
    assert result.shape == (3, *shape)
    np.testing.assert_allclose(result[0], 100 + 100 * image, rtol=1e-5)
    np.testing.assert_allclose(result[1], 1, rtol=1e-5)
    np.testing.assert_allclose(result[2], 7 + 1 - image / 10, rtol=1e-5)
    # It never sees another size, and three scales of its one channel.
    assert {s[1:] for s in model.shapes} == {(8, 8, 3)}


def test_windows_have_a_step_of_half_of_them_and_are_averaged():
    seen = []

    def note(x):
        seen.extend(x[..., 0])
        return certain(np.full((*x.shape[:-1], 1), len(seen) % 2))

    image = np.arange(16 * 20.0).reshape(16, 20)
    card = WINDOWS.changed(
        output_channels=(), denormalize="none", input_normalizer=Normalizer("none")
    )
    result, info = Predictor(Model(note, divisor=4), card).predict(
        Image(image, "YX"), estimate="mean"
    )
    corners = [(y, x) for y in (0, 4, 8) for x in (0, 4, 8, 12)]
    np.testing.assert_array_equal(
        seen, [image[y : y + 8, x : x + 8].astype(np.float32) for y, x in corners]
    )
    # Windows say 1, 0, 1, 0 in turn: where two rows of them meet, half and half.
    expected = np.zeros((16, 20))
    count = np.zeros((16, 20))
    for i, (y, x) in enumerate(corners):
        expected[y : y + 8, x : x + 8] += (i + 1) % 2
        count[y : y + 8, x : x + 8] += 1
    np.testing.assert_allclose(result.array, expected / count, atol=1e-5)
    assert (info["mode"], info["tile"], info["overlap"]) == ("tiles", [8, 8], [4, 4])
    assert (info["blend"], info["estimate"]) == ("average", "mean")
    assert "windows of one size" in info["note"]
    assert json.loads(json.dumps(info)) == info


def test_one_window_is_what_the_network_says_of_it():
    keras = pytest.importorskip("keras")
    from gvtnets_tf.models.gpt import GlobalPixelTransformerNet

    keras.utils.set_random_seed(0)
    net = GlobalPixelTransformerNet(
        out_channels=3, classes=11, filters=2, growth=2, encoder_depths=(1,), bottom_depth=1,
        decoder_depths=(1,),
    )  # fmt: skip
    net.build((None, None, None, 3))
    net.head.conv.kernel.assign(9 * net.head.conv.kernel)
    image = noise(8, 8)
    card = WINDOWS.changed(input_normalizer=Normalizer("zscore"))
    scaled = ((image - image.mean()) / image.std()).astype(np.float32)[..., None]
    x = multiscale.crop_multiscale(lambda index: scaled[index], (8, 8), (0, 0), (8, 8), (1, 2, 0.5))
    p = special.softmax(np.asarray(net(x[None])[0]), axis=-1)
    median = (np.cumsum(p, -1) >= 0.5).argmax(-1) / 10
    predictor = Predictor(net, card)
    expected = median * [1000, 2, 1] + [100, 0, 7]
    np.testing.assert_allclose(predictor(image), np.moveaxis(expected, -1, 0), rtol=1e-5)
    mean = p @ np.linspace(0, 1, 11)
    expected = mean * [1000, 2, 1] + [100, 0, 7]
    found = predictor(image, estimate="mean")
    np.testing.assert_allclose(found, np.moveaxis(expected, -1, 0), rtol=1e-4)
    # Some labels go through a smaller network, and answer the same.
    part = predictor(image, estimate="mean", output_channels=["NFH", "DAPI"])
    np.testing.assert_allclose(part, found[[2, 0]], rtol=1e-4)


def test_a_window_at_the_border_sees_the_image_reflected():
    seen = []
    image = np.arange(64.0).reshape(8, 8)
    model = Model(lambda x: (seen.extend(x), certain(np.full((*x.shape[:-1], 1), 0)))[1])
    card = WINDOWS.changed(
        output_channels=(), denormalize="none", input_normalizer=Normalizer("none"), tile=(4, 4)
    )
    Predictor(model, card)(image)
    whole = np.pad(image, 4, mode="reflect")
    outer = whole[2:10, 2:10]  # of the first window: two pixels before and after it
    # The middle of the outer cut: four of its pixels are means of 4 x 4 with weights 1 3 3 1.
    line = np.array([1, 3, 3, 1]) / 8
    for y, x in np.ndindex(2, 2):
        block = outer[1 + 2 * y : 5 + 2 * y, 1 + 2 * x : 5 + 2 * x]
        assert seen[0][1 + y, 1 + x, 1] == pytest.approx(line @ block @ line, rel=1e-5)


@pytest.mark.parametrize("labels", [["NFH"], [2], ("MAP2", 0), ["NFH", "NFH"]])
@pytest.mark.parametrize("cut", [True, False], ids=["smaller network", "chosen afterwards"])
def test_labels_go_by_name_or_number_in_the_order_asked_for(labels, cut):
    model, image = (Staining if cut else Model)(three), tens(20, 13)
    predictor = Predictor(model, WINDOWS)
    whole = predictor(image)
    names = WINDOWS.output_channels
    indices = [names.index(x) if isinstance(x, str) else x for x in labels]
    result, _ = predictor.predict(Image(image, "YX"), output_channels=labels)
    assert result.channel_names == tuple(names[i] for i in indices)
    found = result.array if result.axes == "CYX" else result.array[None]
    np.testing.assert_allclose(found, whole[indices], rtol=1e-6)


def test_labels_that_were_never_learned_are_predicted_only_if_asked_for():
    predictor = Predictor(Staining(three), WINDOWS.changed(trained_channels=("DAPI", "NFH")))
    image = Image(tens(12, 12), "YX")
    result, _ = predictor.predict(image)
    assert result.channel_names == ("DAPI", "NFH")
    result, _ = predictor.predict(image, output_channels=["MAP2"])
    assert (result.axes, result.channel_names) == ("YX", ("MAP2",))
    np.testing.assert_allclose(result.array, 1, rtol=1e-5)


@pytest.mark.parametrize("denormalize", ["stored", "none"])
def test_labels_of_a_regression_are_chosen_too(denormalize):
    card = WINDOWS.changed(classes=None, scales=(1,), tile=(), denormalize=denormalize)
    model = Model(lambda x: np.concatenate([x, 2 * x, 3 * x], -1))
    image = tens(9, 9)
    gains, offsets = ((1, 2), (7, 0)) if denormalize == "stored" else ((1, 1), (0, 0))
    result = Predictor(model, card)(image, output_channels=["NFH", 1])
    expected = [f * image / 10 * g + o for f, g, o in zip((3, 2), gains, offsets)]
    np.testing.assert_allclose(result, expected, rtol=1e-5)


def test_the_spread_of_a_distribution_is_its_uncertainty_in_the_units_of_the_labels():
    # Half of the time 0.2, half of the time 0.6: the spread is 0.2.
    logits = np.where(np.isin(np.arange(11), (2, 6)), 50, 0).astype(np.float32)
    model = Model(lambda x: np.broadcast_to(logits, (*x.shape[:-1], 3, 11)))
    predictor, image = Predictor(model, WINDOWS), Image(tens(13, 9), "YX", {"Y": 0.5})
    (value, spread), _ = predictor.predict(image, uncertainty=True, estimate="mean")
    assert value.shape == spread.shape == (3, 13, 9)
    assert value.channel_names == spread.channel_names == ("DAPI", "MAP2", "NFH")
    np.testing.assert_allclose(value.array[:, 0, 0], [500, 0.8, 7.4], rtol=1e-4)
    np.testing.assert_allclose(spread.array[:, 0, 0], [200, 0.4, 0.2], rtol=1e-3)
    (_, spread), _ = predictor.predict(image, uncertainty=True, output_channels=["NFH"])
    np.testing.assert_allclose(spread.array, 0.2, rtol=1e-3)
    assert spread.voxel_size == {"Y": 0.5}


def test_planes_of_a_stack_go_through_windows_one_by_one():
    model, stack = Staining(three, divisor=4), tens(3, 11, 14)
    predictor = Predictor(model, WINDOWS)
    result, info = predictor.predict(Image(stack, "ZYX"), uncertainty=True, batch_size=5)
    assert [part.axes for part in result] == ["CZYX"] * 2
    np.testing.assert_allclose(result[0].array[0], 100 + 100 * stack, rtol=1e-5)
    np.testing.assert_allclose(result[1].array, 0, atol=0.5)
    for z in range(3):
        np.testing.assert_allclose(result[0].array[:, z], predictor(stack[z]), rtol=1e-5)
    series = predictor(stack, "TYX")
    np.testing.assert_allclose(series, np.moveaxis(result[0].array, 0, 1), rtol=1e-5)
    assert info["tile"] == [8, 8]


def test_windows_are_read_in_batches_and_counted(capsys):
    model = Staining(three, divisor=4)
    Predictor(model, WINDOWS)(tens(16, 20), batch_size=5, progress=True)
    assert [s[0] for s in model.shapes] == [5, 5, 2]
    assert "12/12" in capsys.readouterr().err


def test_memory_of_windows_counts_the_distributions_of_a_band():
    model = Staining(three, divisor=4)
    card = WINDOWS.changed(bytes_per_voxel=1000.0)
    predictor, image = Predictor(model, card), Image(tens(400, 1000), "YX", name="well")
    # A call: 64 pixels; a band: 8 rows of 1000 pixels, three labels, eleven classes.
    need = 1000 * 64 + 4 * 8 * 1000 * 3 * 11
    predictor.predict(image.crop({"Y": (0, 8)}), max_memory=need)
    expected = (
        r"well does not fit the memory: 1 x \(8, 8\) .*1.1 MiB.* fewer channels with --output"
    )
    with pytest.raises(ValueError, match=expected):
        predictor.predict(image, max_memory=need - 1)
    predictor.predict(image.crop({"Y": (0, 8)}), max_memory=need - 1, output_channels=["NFH"])


WINDOW_ERRORS = {
    "whole": (
        {"whole": True},
        r"`whole` is of networks that read images of any size.*a model of \(8, 8\) windows",
    ),
    "name": (
        {"output_channels": ["DAPY"]},
        r"`output channel` cannot be 'DAPY'. Did you mean 'DAPI'",
    ),
    "number": (
        {"output_channels": [3]},
        r"`output channel` cannot be 3. Choose one of \['0', '1', '2', 'DAPI'",
    ),
    "none": (
        {"output_channels": []},
        r"Name at least one channel, or leave `output_channels` out. Received: \[\]",
    ),
    "negative": ({"output_channels": [-1]}, r"`output channel` cannot be -1"),
    "estimate": ({"estimate": "meen"}, r"`estimate` cannot be 'meen'. Did you mean 'mean'"),
    "scales": ({"tile": 6}, r"window of 6 pixels along Y cannot be cut at scale 0.5"),
    "odd": ({"tile": (8, 8, 8)}, r"`tile` is one number, or one for each axis of YX"),
}


@pytest.mark.parametrize("case", WINDOW_ERRORS)
def test_what_windows_cannot_do_is_refused_by_name(case):
    given, message = WINDOW_ERRORS[case]
    model = Staining(three)
    with pytest.raises(ValueError, match=message):
        Predictor(model, WINDOWS)(tens(16, 16), **given)
    assert model.shapes == []


@pytest.mark.parametrize("label, text", [(7, "cannot be 7"), (-2, "cannot be -2")])
def test_labels_without_names_are_numbers_that_there_are(label, text):
    card = WINDOWS.changed(
        classes=None, output_channels=(), denormalize="none", target_normalizer=Normalizer()
    )
    with pytest.raises(ValueError, match=f"`output channel` {text}"):
        Predictor(Model(lambda x: x[..., :3]), card)(tens(8, 8), output_channels=[label])


@pytest.mark.filterwarnings("ignore:.*fewer than")
@pytest.mark.parametrize("shape", [(21, 30), (3, 2), (24, 24), (5, 30)])
def test_beyond_the_border_windows_see_the_reflection_of_the_image(shape):
    seen = {}

    class Looking:
        divisor = 4

        def __call__(self, x):
            seen.setdefault("x", []).extend(np.asarray(x))
            return np.zeros((*x.shape[:-1], 1), np.float32)

    card = Card(
        axes="YX", output_axes="YX", input_normalizer=Normalizer("none"),
        target_normalizer=Normalizer("none"),
        denormalize="none", scales=(1, 2, 0.5), tile=(8, 8),
    )  # fmt: skip
    image = np.random.default_rng(0).random(shape).astype(np.float32)
    Predictor(Looking(), card)(image)
    far = 60
    around = np.pad(image, far, mode="reflect")[..., None]
    expected = [
        multiscale.crop_multiscale(
            lambda index: around[index], around.shape[:2], (y + far, x + far), (8, 8), (1, 2, 0.5)
        )
        for y in range(-8, shape[0] + 8)
        for x in range(-8, shape[1] + 8)
    ]
    for x in seen["x"]:
        assert any(np.array_equal(x, e) for e in expected)


def test_a_network_without_the_classes_its_card_promises_is_refused():
    with pytest.raises(ValueError, match=r"promises \(1, 8, 8\) and channels .*and classes"):
        Predictor(Model(), WINDOWS)(tens(8, 8))
    card = WINDOWS.changed(classes=None)
    with pytest.raises(ValueError, match=r"promises \(1, 8, 8\) and channels \(axes YX to YX\)\."):
        Predictor(Model(three), card)(tens(8, 8))


def test_a_network_of_windows_counts_channels_without_its_scales():
    card = WINDOWS.changed(input_channels=("z0", "z1"))
    with pytest.raises(ValueError, match=r"does not name its channels, .* reads 2 \(z0, z1\)\."):
        Predictor(Staining(three), card)(tens(8, 8))


# Units that are chosen for a prediction.

MEASURED = FLAT.changed(
    input_normalizer=Normalizer("zscore"),
    output_channels=("a", "b"),
    target_statistics={"offset": [100.0, 7.0], "gain": [10.0, 2.0]},
)


@pytest.mark.parametrize("kept", ["input", "stored", "none"])
def test_the_units_of_a_result_are_those_that_are_asked_for(kept):
    image = np.random.default_rng(0).poisson(50, (8, 8)).astype(float)
    z = (image - image.mean()) / image.std()
    predictor = Predictor(lambda x: np.concatenate([x, -x], -1), MEASURED.changed(denormalize=kept))
    expected = {
        "input": ("input", [image, 2 * image.mean() - image]),
        "stored": ("target", [100 + 10 * z, 7 - 2 * z]),
        "none": ("normalized", [z, -z]),
    }
    for asked, (units, arrays) in expected.items():
        result, info = predictor.predict(Image(image, "YX"), denormalize=asked)
        np.testing.assert_allclose(result.numpy("CYX"), arrays, rtol=1e-4, atol=1e-4)
        assert (info["denormalize"], info["units"]) == (asked, units)
        assert ("target_statistics" in info) == (asked == "none")
    # Those of the channels that were chosen, in their order.
    _, info = predictor.predict(Image(image, "YX"), denormalize="none", output_channels=["b", 0])
    assert info["target_statistics"] == {"offset": [7.0, 100.0], "gain": [2.0, 10.0]}


def test_units_that_a_model_lacks_are_refused_before_the_first_call():
    model = Model(divisor=1)
    with pytest.raises(ValueError, match="`denormalize='stored'` needs the statistics of the tra"):
        Predictor(model, FLAT).predict(Image(np.eye(8), "YX"), denormalize="stored")
    assert not model.shapes
