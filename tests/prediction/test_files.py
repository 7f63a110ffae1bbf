"""Files go in and files come out, under names that can be foretold."""

import errno
from pathlib import Path

import filelock
import numpy as np
import pytest
import tifffile

from gvtnets_tf.evaluation.scoring import evaluate
from gvtnets_tf.images import readers, writers
from gvtnets_tf.images.image import Image
from gvtnets_tf.images.normalization import Normalizer
from gvtnets_tf.prediction.files import Failures, predict
from gvtnets_tf.prediction.predictor import Predictor
from gvtnets_tf.zoo.card import Card

FIRST = Path(__file__).parents[1] / "data_folder_v1"
SIZE = {"Z": 0.58, "Y": 0.29, "X": 0.29}  # as the frozen folder was trained on


def double(x):
    """A network that predicts twice its input, and a scale of one half."""
    return np.concatenate([2 * x, np.full_like(x, 0.5)], axis=-1)


@pytest.fixture
def model():
    return Predictor(
        double, Card(input_normalizer=Normalizer("none"), denormalize="none", probabilistic=True)
    )


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 200, (4, 6, 8)).astype(np.float32)


def put(path, pixels):
    return writers.write(path, Image(pixels, "ZYX", SIZE))


@pytest.mark.parametrize("suffix", [".tif", ".ome.tif", ".zarr", ".npy"])
@pytest.mark.parametrize("to", [".tif", ".ome.tif", ".zarr", ".npy"])
def test_one_input_and_a_suffix_make_a_file(tmp_path, model, pixels, suffix, to):
    if ".zarr" in (suffix, to):
        pytest.importorskip("zarr", reason="needs [zarr]")
    path = put(tmp_path / f"a{suffix}", pixels)
    out = tmp_path / "deep" / f"b{to}"
    assert predict(path, model, out, axes="ZYX", progress=False) == [out]
    found = readers.read(out, "ZYX")
    np.testing.assert_array_equal(found.numpy(), 2 * pixels)
    if ".npy" not in (suffix, to):
        assert found.voxel_size == pytest.approx(SIZE)
        assert found.array.dtype == np.float32


def test_a_folder_gets_a_result_of_the_same_stem_per_input(tmp_path, model, pixels):
    pytest.importorskip("zarr", reason="needs [zarr]")
    for name in ("a.tif", "b.ome.tif", "c.npy", "d.zarr"):
        put(tmp_path / "in" / name, pixels)
    out = tmp_path / "out.v2"
    out.mkdir()
    for spec in (tmp_path / "in", f"{tmp_path}/in/*"):
        found = predict(spec, model, out, progress=False, force=True)
        assert [p.name for p in found] == ["a.tif", "b.tif", "c.tif", "d.zarr"]
        assert all(np.array_equal(readers.read(p).numpy(), 2 * pixels) for p in found)
    assert sorted(p.name for p in out.iterdir()) == ["a.tif", "b.tif", "c.tif", "d.zarr"]
    (only,) = predict(tmp_path / "in" / "a.tif", model, tmp_path / "folder", progress=False)
    assert only == tmp_path / "folder" / "a.tif"


def test_a_format_that_is_not_known_is_refused_before_any_work(tmp_path, pixels):
    path = put(tmp_path / "a.tif", pixels)
    with pytest.raises(ValueError, match=r"`suffix of the output` cannot be '\.jpg'"):
        predict(path, None, tmp_path / "b.jpg")
    with pytest.raises(ValueError, match=r"`dtype` cannot be 'uint17'\. Did you mean 'uint16'"):
        predict(path, None, tmp_path / "b.tif", dtype="uint17")
    put(tmp_path / "b.tif", pixels)
    with pytest.raises(ValueError, match=r"out\.tif is one file, and there are 2 inputs: name a f"):
        predict(f"{tmp_path}/*.tif", None, tmp_path / "out.tif")
    with pytest.raises(FileNotFoundError, match=r"no file matches .*none\.tif"):
        predict(tmp_path / "none.tif", None, tmp_path / "out.tif")


def test_what_cannot_be_written_is_refused_before_any_work(tmp_path, pixels):
    path = put(tmp_path / "a.tif", pixels)
    with pytest.raises(ValueError, match=r"A \.png file holds no float32: pass a dtype"):
        predict(path, None, tmp_path / "b.png")
    with pytest.raises(ValueError, match=r"A \.ome\.tif file holds no float16"):
        predict(path, None, tmp_path / "b.ome.tif", dtype="float16")
    with pytest.raises(PermissionError, match=r"b\.tif cannot be written: .* is not a folder"):
        predict(path, None, path / "b.tif")


def test_a_stack_is_refused_for_png_before_it_is_predicted(tmp_path, pixels):
    def network(x):
        pytest.fail("the network must not run")

    model = Predictor(network, Card(input_normalizer=Normalizer("none")))
    path, out = put(tmp_path / "a.tif", pixels), tmp_path / "b.png"
    with pytest.raises(ValueError, match=r"b\.png would hold one plane: write \.tif.*Z 4"):
        predict(path, model, out, dtype="uint16", progress=False)
    card = Card(output_axes="YX", input_normalizer=Normalizer("none"))
    project = Predictor(lambda x: x.max(1), card)  # its result is a plane
    predict(path, project, out, dtype="uint16", progress=False)
    np.testing.assert_array_equal(readers.read(out).numpy(), pixels.max(0))


def test_folders_that_a_glob_matches_are_series_and_a_plain_folder_means_its_files(
    tmp_path, model, pixels
):
    for name in ("embryo_1", "embryo_2"):
        for z, plane in enumerate(pixels):
            writers.write(tmp_path / "in" / name / f"{z}.tif", Image(plane, "YX"))
    found = predict(f"{tmp_path}/in/*", model, tmp_path / "out", progress=False)
    assert [p.name for p in found] == ["embryo_1.tif", "embryo_2.tif"]
    np.testing.assert_array_equal(readers.read(found[1]).numpy(), 2 * pixels)
    found = predict(
        f"{tmp_path}/in/embryo_[1]", model, tmp_path / "one.tif", axes="ZYX", progress=False
    )
    np.testing.assert_array_equal(readers.read(found[0]).numpy(), 2 * pixels)
    with pytest.raises(ValueError, match="lacks axis Z"):
        predict(tmp_path / "in" / "embryo_1", model, tmp_path / "planes", progress=False)


def test_a_folder_for_several_results_may_have_a_dot_in_its_name(tmp_path, model, pixels):
    for name in "ab":
        put(tmp_path / "in" / f"{name}.tif", pixels)
    found = predict(tmp_path / "in", model, tmp_path / "voxels 0.5", progress=False)
    assert found == [tmp_path / "voxels 0.5" / f"{name}.tif" for name in "ab"]


def test_inputs_of_one_stem_are_refused(tmp_path, pixels):
    put(tmp_path / "x" / "a.tif", pixels)
    put(tmp_path / "y" / "a.ome.tif", pixels)
    with pytest.raises(ValueError, match=r"Several inputs have one name.*: a\.tif\. Predict them"):
        predict(f"{tmp_path}/*/*", None, tmp_path / "out")


def test_values_are_rounded_and_clipped_and_the_share_is_logged(tmp_path, model, caplog, capfd):
    x = np.array([[[-1, 0.2, 0.3, 40000]]], np.float32)
    path = put(tmp_path / "a.tif", x)
    options = {"dtype": "uint16", "denormalize": "input", "progress": False}
    predict(path, model, tmp_path / "b.tif", **options)
    found = readers.read(tmp_path / "b.tif").numpy("ZYX")
    np.testing.assert_array_equal(found, [[[0, 0, 1, 65535]]])
    assert found.dtype == np.uint16
    assert "50.00% of the values were clipped to uint16" in caplog.text
    assert capfd.readouterr().out == ""


def test_what_is_there_is_replaced_only_if_forced(tmp_path, model, pixels):
    path, out = put(tmp_path / "a.tif", pixels), tmp_path / "b.tif"
    out.write_text("old")
    with pytest.raises(FileExistsError, match=r"b\.tif exists and is not overwritten"):
        predict(path, model, out, progress=False)
    with pytest.raises(FileExistsError, match=r"b\.tif was not written by gvtnets_tf, and --force"):
        predict(path, model, out, progress=False, force=True)
    assert out.read_text() == "old"
    out.unlink()
    put(out, pixels)
    predict(path, model, out, progress=False, force=True)
    np.testing.assert_array_equal(readers.read(out).numpy(), 2 * pixels)
    with pytest.raises(FileExistsError, match=r"b\.tif exists"):
        predict(path, model, out, uncertainty=True, progress=False)


def test_a_run_that_stopped_writes_what_is_missing(tmp_path, model, pixels):
    for name in "abc":
        put(tmp_path / "in" / f"{name}.tif", pixels)
    out, options = tmp_path / "out", {"uncertainty": True, "progress": False}
    predict(tmp_path / "in", model, out, **options)
    files = [out / place / f"{name}.tif" for name in "abc" for place in ("", "uncertainty")]
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*.tif")}
    (out / "uncertainty" / "b.tif").unlink()
    (out / "c.tif").unlink()
    found = predict(tmp_path / "in", model, out, resume=True, **options)
    assert found == files
    after = {p: p.stat().st_mtime_ns for p in out.rglob("*.tif")}
    assert after.keys() == before.keys() == set(files)
    assert {path for path in after if after[path] != before[path]} == set(files[2:])


def test_the_uncertainty_lies_where_it_is_not_taken_for_a_result(tmp_path, model, pixels):
    path = put(tmp_path / "a.tif", pixels)
    found = predict(path, model, tmp_path / "b.ome.tif", uncertainty=True, progress=False)
    assert found == [tmp_path / "b.ome.tif", tmp_path / "uncertainty" / "b.ome.tif"]
    assert np.all(readers.read(found[1]).numpy() == 0.5)
    targets = tmp_path / "truth"
    for name in "ab":
        put(targets / f"{name}.tif", pixels)
        put(tmp_path / "in" / f"{name}.tif", pixels)
    out = tmp_path / "out"
    options = {"denormalize": "input", "uncertainty": True, "progress": False}
    predict(tmp_path / "in", model, out, **options)
    for spec in (out, f"{out}/*.tif"):
        assert [row["name"] for row in evaluate(spec, targets).rows] == ["a", "b"]


def test_the_result_says_how_it_was_made(tmp_path, pixels):
    path = put(tmp_path / "a.tif", np.repeat(pixels, 4, axis=2))
    predict(path, FIRST, tmp_path / "whole.tif", progress=False)
    predict(path, FIRST, tmp_path / "tiles.ome.tif", tile=(4, 4, 8), batch_size=2, progress=False)
    whole = readers.read_metadata(tmp_path / "whole.tif")
    assert (whole["model"], whole["mode"], whole["precision"]) == (str(FIRST), "whole", "float32")
    (used,) = whole["statistics"]
    assert used["offset"] == pytest.approx([pixels.mean()], rel=1e-5)
    assert used["gain"] == pytest.approx([pixels.std()], rel=1e-5)
    tiles = readers.read_metadata(tmp_path / "tiles.ome.tif")
    assert (tiles["mode"], tiles["tile"], tiles["blend"]) == ("tiles", [4, 4, 8], "crop")
    assert "the result depends on the tile" in tiles["note"]
    assert tiles["statistics"] == whole["statistics"]


def test_channels_and_axes_are_taken_as_asked(tmp_path, model, pixels):
    both = np.stack([pixels, pixels + 1])
    writers.write(tmp_path / "a.ome.tif", Image(both, "CZYX", SIZE, ("dna", "er")))
    predict(
        tmp_path / "a.ome.tif", model, tmp_path / "b.tif", input_channels=["er"], progress=False
    )
    np.testing.assert_array_equal(readers.read(tmp_path / "b.tif").numpy("ZYX"), 2 * both[1])
    np.save(tmp_path / "c.npy", np.moveaxis(pixels, 0, -1))
    predict(tmp_path / "c.npy", model, tmp_path / "d.tif", axes="YXZ", progress=False)
    np.testing.assert_array_equal(readers.read(tmp_path / "d.tif").numpy("ZYX"), 2 * pixels)


def movie(path, frames=4, axes="TZYX"):
    """Write a time series whose frames become brighter; return its path and pixels."""
    x = np.random.default_rng(1).poisson(100, (frames, 4, 6, 8)).astype(np.float32)
    x *= np.arange(1, frames + 1).reshape(-1, 1, 1, 1)
    return writers.write(path, Image(x, axes, {"T": 2.0, **SIZE})), x


def counting(function=np.copy, **card):
    """A predictor, and the list of the shapes that its network was called with."""
    calls = []

    def network(x):
        calls.append(x.shape)
        return function(x)

    return Predictor(
        network, Card(input_normalizer=Normalizer("zscore"), denormalize="none", **card)
    ), calls


def test_chosen_frames_and_their_statistics_are_said_in_the_result(tmp_path):
    path, x = movie(tmp_path / "m.tif")
    model, calls = counting()
    predict(path, model, tmp_path / "o.tif", frames="1::2", statistics="series", progress=False)
    found = readers.read(tmp_path / "o.tif")
    assert (found.axes, found.shape, len(calls)) == ("TZYX", (2, 4, 6, 8), 2)
    assert found.voxel_size["T"] == pytest.approx(4.0)
    expected = (x[1::2] - x[1::2].mean()) / x[1::2].std()
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-5)
    said = readers.read_metadata(tmp_path / "o.tif")
    assert (said["frames"], said["statistics_of"]) == ("1::2", "series")
    predict(path, model, tmp_path / "p.tif", progress=False)
    said = readers.read_metadata(tmp_path / "p.tif")
    assert (said["statistics_of"], len(said["statistics"])) == ("frame", 4)


def test_a_series_that_stopped_goes_on_with_the_next_frame(tmp_path):
    path, _ = movie(tmp_path / "m.tif")
    out, answers = tmp_path / "o.ome.tif", []

    def network(x):
        if len(answers) == 2:
            raise KeyboardInterrupt
        answers.append(x.shape)
        return np.concatenate([x, np.abs(x)], -1)

    options = {"uncertainty": True, "progress": False, "gif": tmp_path / "m.gif"}
    model, _ = counting(network, probabilistic=True)
    with pytest.raises(KeyboardInterrupt):
        predict(path, model, out, **options)
    # Nothing is there under the names of the outputs.
    assert {p.name for p in tmp_path.iterdir()} == {"m.tif", ".o.ome.tif.parts"}
    with pytest.raises(FileExistsError, match=r"left parts of .*o\.ome\.tif.*go on with --resume"):
        predict(path, None, out, **options)

    good, calls = counting(lambda x: np.concatenate([x, np.abs(x)], -1), probabilistic=True)
    with pytest.raises(
        ValueError, match=r"settings: flip_average was False, is True; tile was None, is 4\. Repeat"
    ):
        predict(path, good, out, resume=True, flip_average=True, tile=4, **options)
    other = Predictor(good.model, good.card.changed(denormalize="input"))
    with pytest.raises(ValueError, match=r"denormalize of the model was 'none', is 'input'\."):
        predict(path, other, out, resume=True, **options)
    written = predict(path, good, out, resume=True, batch_size=2, **options)
    names = [p.relative_to(out.parent).as_posix() for p in written[:2]]
    assert names == ["o.ome.tif", "uncertainty/o.ome.tif"]
    assert written[2].name == "m.gif"
    assert len(calls) == 2  # of four frames, two were there
    whole = predict(path, good, tmp_path / "w.ome.tif", uncertainty=True, progress=False)
    for a, b in zip(written, whole):
        np.testing.assert_array_equal(readers.read(a).numpy(), readers.read(b).numpy())
        assert readers.read_metadata(a) == readers.read_metadata(b)
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]
    # All is there: nothing is left to do, and a missing movie is made again.
    before = len(calls)
    predict(path, good, out, resume=True, **options)
    assert len(calls) == before
    (tmp_path / "m.gif").unlink()
    predict(path, good, out, resume=True, **options)
    assert ((tmp_path / "m.gif").exists(), len(calls)) == (True, before + 4)


def test_a_movie_shows_one_plane_of_a_series(tmp_path):
    from PIL import Image as Picture

    path, x = movie(tmp_path / "m.tif")
    model, _ = counting()
    keep = {"progress": False, "statistics": "series"}
    gif = tmp_path / "deep" / "m.gif"
    written = predict(path, model, tmp_path / "o.tif", gif=gif, gif_plane=1, **keep)
    assert written == [tmp_path / "o.tif", gif]
    with Picture.open(gif) as shown:
        assert (shown.n_frames, shown.size) == (4, (8, 6))
        means = [np.asarray(shown.convert("L")).mean() for t in range(4) if not shown.seek(t)]
    assert np.corrcoef(means, x[:, 1].mean((1, 2)))[0, 1] > 0.99  # one contrast for all
    with pytest.raises(ValueError, match=r"m has no plane 4 to show: --gif-plane"):
        predict(path, model, tmp_path / "p.tif", gif=tmp_path / "p.gif", gif_plane=4, **keep)
    with pytest.raises(ValueError, match=r"`suffix of --gif` cannot be '\.png'"):
        predict(path, model, tmp_path / "p.tif", gif=tmp_path / "p.png", **keep)
    with pytest.raises(FileExistsError, match=r"m\.gif exists and is not overwritten"):
        predict(path, model, tmp_path / "p.tif", gif=gif, **keep)
    movie(tmp_path / "n.tif")
    with pytest.raises(ValueError, match=r"p\.gif shows one series, and there are 2 inputs"):
        predict(f"{tmp_path}/[mn].tif", model, tmp_path / "out", gif=tmp_path / "p.gif", **keep)


def test_what_is_no_series_has_neither_frames_nor_a_movie(tmp_path, model, pixels):
    path = put(tmp_path / "a.tif", pixels)
    with pytest.raises(ValueError, match=r"a has no axis T: name its axes with --axes"):
        predict(path, model, tmp_path / "o.tif", frames=":2", progress=False)
    with pytest.raises(ValueError, match=r"--gif .* shows a time series, and a has no axis T"):
        predict(path, model, tmp_path / "o.tif", gif=tmp_path / "o.gif", progress=False)
    with pytest.raises(ValueError, match=r"No frame is left: `frames` '9:' of m, which has 4"):
        predict(movie(tmp_path / "m.tif")[0], model, tmp_path / "o.tif", frames="9:")
    assert not (tmp_path / "o.tif").exists()


def test_a_file_is_resampled_to_the_model_and_back_or_told_its_voxels(tmp_path):
    x = np.random.default_rng(0).poisson(100, (4, 12, 16)).astype(np.float32)
    bare = writers.write(tmp_path / "bare.tif", Image(x, "ZYX"))
    model, calls = counting(voxel_size={"Z": 0.5, "Y": 0.5, "X": 0.5})
    with pytest.raises(ValueError, match=r"bare has no voxel size along Z.*with --voxel-size"):
        predict(bare, model, tmp_path / "o.tif", resample=True, progress=False)
    told = {"resample": True, "voxel_size": (1, 0.25, 0.25), "progress": False}
    predict(bare, model, tmp_path / "o.tif", **told)
    assert calls == [(1, 8, 6, 8, 1)]
    found = readers.read(tmp_path / "o.tif")
    assert found.shape == x.shape
    assert found.voxel_size == pytest.approx({"Z": 1, "Y": 0.25, "X": 0.25})
    said = readers.read_metadata(tmp_path / "o.tif")
    assert said["resampled_to"] == {"Z": 0.5, "Y": 0.5, "X": 0.5}


@pytest.mark.parametrize(
    "voxel_size, message",
    [
        ((1, 1), r"has one number for each of the axes ZYX of a\. Received: \[1, 1\]"),
        ((1, 0, 1), r"in micrometers, above zero, along Z, Y or X\. Received: Y 0"),
        ({"Q": 1}, r"above zero, along Z, Y or X\. Received: Q 1"),
    ],
)
def test_voxel_sizes_that_are_none_are_refused(tmp_path, model, pixels, voxel_size, message):
    path = put(tmp_path / "a.tif", pixels)
    with pytest.raises(ValueError, match=message):
        predict(path, model, tmp_path / "o.tif", voxel_size=voxel_size, progress=False)


def test_flips_are_averaged_and_recorded(tmp_path, pixels):
    path = put(tmp_path / "a.tif", pixels)

    def uneven(x):
        return x + np.arange(x.shape[3], dtype=np.float32)[:, None]

    model = Predictor(uneven, Card(input_normalizer=Normalizer("none"), denormalize="none"))
    predict(path, model, tmp_path / "o.tif", flip_average=True, progress=False)
    np.testing.assert_allclose(readers.read(tmp_path / "o.tif").numpy(), pixels + 3.5)
    assert readers.read_metadata(tmp_path / "o.tif")["flip_average"] is True


def test_channels_are_found_by_the_names_of_the_card(tmp_path, pixels):
    both = np.stack([pixels, pixels + 1])
    path = tmp_path / "a.ome.tif"
    writers.write(path, Image(both, "CZYX", SIZE, ("dna", "phase")))
    card = Card(input_normalizer=Normalizer("none"), denormalize="none", input_channels=("phase",))
    predict(path, Predictor(np.copy, card), tmp_path / "o.tif", progress=False)
    np.testing.assert_array_equal(readers.read(tmp_path / "o.tif").numpy("ZYX"), both[1])
    missing = Predictor(np.copy, card.changed(input_channels=("DIC",)))
    with pytest.raises(ValueError, match=r"a has no channel 'DIC', which the model reads: choo"):
        predict(path, missing, tmp_path / "p.tif", progress=False)


def test_a_thin_stack_is_predicted_and_that_is_said(tmp_path, pixels):
    class Thick:
        divisor = (16, 2, 2)

        def __call__(self, x):
            return x.copy()

    path = put(tmp_path / "a.tif", pixels)
    model = Predictor(Thick(), Card(input_normalizer=Normalizer("none"), denormalize="none"))
    with pytest.warns(UserWarning, match=r"a has 4 voxels along Z, fewer than 16, the least that"):
        predict(path, model, tmp_path / "o.tif", progress=False)
    np.testing.assert_array_equal(readers.read(tmp_path / "o.tif").numpy(), pixels)


STATISTICS = {"offset": [1000.0], "gain": [50.0]}


@pytest.mark.parametrize(
    "statistics, advice", [(STATISTICS, "stored"), ({}, "input")], ids=["known", "unknown"]
)
def test_normalized_values_are_not_rounded(tmp_path, pixels, statistics, advice):
    path, calls = put(tmp_path / "a.tif", pixels), []
    card = Card(
        input_normalizer=Normalizer("zscore"), denormalize="none", target_statistics=statistics
    )
    model = Predictor(lambda x: calls.append(1) or x, card)
    text = (
        r"The model predicts normalized values, of which uint16 would keep a few whole numbers: "
        rf"leave out --dtype \(`dtype`\), or give the result units with --denormalize {advice} "
        rf"\(`denormalize='{advice}'`\)\."
    )
    with pytest.raises(ValueError, match=text):
        predict(path, model, tmp_path / "b.tif", dtype="uint16", progress=False)
    assert not calls
    options = {"dtype": "uint16", "denormalize": advice, "progress": False}
    (out,) = predict(path, model, tmp_path / "b.tif", **options)
    assert np.unique(readers.read(out).numpy()).size > 50
    predict(path, model, tmp_path / "c.tif", dtype="float16", progress=False)


def test_a_prediction_says_its_units_and_evaluate_reads_them(tmp_path, pixels):
    path = put(tmp_path / "in" / "a.tif", pixels)
    put(tmp_path / "truth" / "a.tif", 1000 + 50 * (pixels - pixels.mean()) / pixels.std())
    card = Card(
        input_normalizer=Normalizer("zscore"), denormalize="none", target_statistics=STATISTICS
    )
    for asked, units in ((None, "normalized"), ("stored", "target"), ("input", "input")):
        out = tmp_path / units / "a.tif"
        predict(path, Predictor(np.copy, card), out, denormalize=asked, progress=False)
        info = readers.read_metadata(out)
        assert info["units"] == units
        assert info.get("target_statistics") == (STATISTICS if asked is None else None)
        report = evaluate([out], [tmp_path / "truth" / "a.tif"])
        assert (report.rows[0]["mae"] < 0.01) == (asked != "input")


def test_several_models_say_the_units_of_each(tmp_path, pixels):
    path = put(tmp_path / "in" / "a.tif", pixels)
    z = (pixels - pixels.mean()) / pixels.std()
    writers.write(tmp_path / "truth" / "a.tif", Image(np.stack([1000 + 50 * z, pixels]), "CZYX"))
    card = Card(input_normalizer=Normalizer("zscore"))
    models = {
        "dye": Predictor(np.copy, card.changed(denormalize="none", target_statistics=STATISTICS)),
        "light": Predictor(np.copy, card),
    }
    (out, _) = predict(path, models, tmp_path / "out" / "a.ome.tif", progress=False)
    told = readers.read_metadata(out)["models"]
    assert [(one["units"], one["channels"]) for one in told] == [("normalized", 1), ("input", 1)]
    report = evaluate(out, tmp_path / "truth" / "a.tif")
    assert max(row["mae"] for row in report.rows) < 0.01


# Channels that are found again.

FILE = ("channel 0", "channel 1", "channel 2")


@pytest.mark.parametrize("number", [0, 2])
def test_channels_without_names_are_found_again_in_a_file_of_the_same_layout(tmp_path, number):
    x = np.random.default_rng(0).random((3, 4, 8, 8), np.float32)
    path = writers.write(tmp_path / "a.tif", Image(x, "CZYX"))
    card = Card(
        input_normalizer=Normalizer("none"), input_channels=(FILE[number],), file_channels=FILE
    )
    (out,) = predict(path, Predictor(np.copy, card), tmp_path / "b.tif", progress=False)
    np.testing.assert_array_equal(readers.read(out).numpy("ZYX"), x[number])
    # One channel, as many as it reads, is taken as it is.
    path = writers.write(tmp_path / "one.tif", Image(x[1], "ZYX"))
    (out,) = predict(path, Predictor(np.copy, card), tmp_path / "c.tif", progress=False)
    np.testing.assert_array_equal(readers.read(out).numpy("ZYX"), x[1])


@pytest.mark.parametrize("known", [FILE, ()], ids=["another layout", "an unknown one"])
def test_in_another_layout_the_flag_and_the_channels_of_the_file_are_named(tmp_path, known):
    path = writers.write(tmp_path / "a.tif", Image(np.ones((2, 4, 8, 8), "float32"), "CZYX"))
    card = Card(
        input_normalizer=Normalizer("none"), input_channels=("channel 0",), file_channels=known
    )
    trained = r", out of channel 0, channel 1, channel 2" if known else ""
    text = (
        r"a does not name its channels, so none is 'channel 0', which the model reads: choose with "
        r"--input-channels \(`input_channels`\) among its 2 \(channel 0, channel 1\)\. "
        rf"The model reads 1 \(channel 0{trained}\)\."
    )
    with pytest.raises(ValueError, match=text):
        predict(path, Predictor(np.copy, card), tmp_path / "b.tif", progress=False)


def batch(folder, pixels):
    """Write a broken file, a whole one, a blank one and another whole one to `folder/in`."""
    for name in "abcd":
        put(folder / "in" / f"{name}.tif", pixels if name != "c" else np.zeros_like(pixels))
    (folder / "in" / "a.tif").write_bytes((folder / "in" / "b.tif").read_bytes()[:600])
    return folder / "in"


def test_an_input_that_fails_does_not_end_a_batch(tmp_path, pixels, caplog):
    model, calls = counting()
    inputs, out = batch(tmp_path, pixels), tmp_path / "out"
    a, c = str(inputs / "a.tif"), str(inputs / "c.tif")
    with pytest.raises(Failures) as told:
        predict(inputs, model, out, progress=False)
    assert told.value.errors.keys() == {a, c}
    assert told.value.written == [out / "b.tif", out / "d.tif"]
    assert (sorted(p.name for p in out.iterdir()), len(calls)) == (["b.tif", "d.tif"], 2)
    text = str(told.value)
    assert text.startswith(f"2 of 4 inputs failed, the others are done: {a} cannot be read as")
    assert f"; {c}: Channel 0 of c is constant" in text
    assert text.endswith("With --resume (`resume=True`) only they are tried again.")
    said = [record.message for record in caplog.records if record.name == "gvtnets_tf"]
    assert [line.startswith(f"left out: {name}") for line, name in zip(said, (a, c))] == [True] * 2
    # What is mended is all that is left to do.
    (inputs / "c.tif").unlink()
    put(inputs / "c.tif", pixels)
    with pytest.raises(Failures, match=r"^1 of 4 inputs failed"):
        predict(inputs, model, out, progress=False, resume=True)
    assert (out / "c.tif").is_file()
    assert len(calls) == 3


@pytest.mark.parametrize("strict", [True, False])
def test_strict_or_with_one_input_an_error_is_raised_at_once(tmp_path, pixels, strict):
    model, calls = counting()
    inputs = batch(tmp_path, pixels)
    with pytest.raises(ValueError, match=r"a\.tif cannot be read as TIFF") as told:
        predict(inputs if strict else inputs / "a.tif", model, tmp_path / "out", strict=strict)
    assert not isinstance(told.value, Failures)
    assert (calls, (tmp_path / "out").exists()) == ([], False)


def test_strict_refuses_a_page_without_data(tmp_path, model, pixels, caplog):
    pixels = np.concatenate([pixels[:1], np.zeros_like(pixels[1:])])
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, pixels, photometric="minisblack", compression="zlib", metadata=None)
    content = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tif:
        place = tif.pages[1].tags["StripByteCounts"].valueoffset
    content[place : place + 4] = bytes(4)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.tif: 1 of \d+ pages have no data"):
        predict(path, model, tmp_path / "out.tif", axes="ZYX", strict=True, progress=False)
    predict(path, model, tmp_path / "out.tif", axes="ZYX", progress=False)
    assert "a.tif: 1 of" in caplog.text


def test_a_summary_is_short_whatever_failed(tmp_path):
    errors = {f"{i}.tif": MemoryError("x" * 1000) for i in range(30)}
    text = str(Failures(errors, 40, []))
    assert text.startswith("30 of 40 inputs failed, the others are done: 0.tif: xxx")
    assert "; 9.tif: x" in text
    assert "; and 20 more. With" in text
    assert len(text) < 2500


@pytest.mark.parametrize(
    "error", [MemoryError(), RecursionError("deep"), ModuleNotFoundError("pip install it")]
)
def test_memory_that_ends_does_not_end_a_batch_and_a_full_disk_does(
    tmp_path, pixels, monkeypatch, error
):
    for name in "abc":
        put(tmp_path / "in" / f"{name}.tif", pixels)
    calls = []

    def network(x):
        calls.append(x.shape)
        if len(calls) == 1:
            raise error
        return x

    model = Predictor(network, Card(input_normalizer=Normalizer("none"), denormalize="none"))
    text = str(error) or "MemoryError"
    with pytest.raises(Failures, match=rf"1 of 3 inputs failed.*a\.tif: {text}\. "):
        predict(tmp_path / "in", model, tmp_path / "out", progress=False)
    full = OSError(errno.ENOSPC, "No space left on device")

    def write(path, *args, **kwargs):
        raise full

    monkeypatch.setattr(writers, "write", write)
    with pytest.raises(OSError, match="No space left on device") as told:
        predict(tmp_path / "in", model, tmp_path / "other", progress=False)
    assert (told.value, len(calls)) == (full, 4)
    assert not (tmp_path / "other").exists()


def test_an_input_is_never_replaced_by_its_result(tmp_path, model, pixels):
    a = put(tmp_path / "a.tif", pixels)
    put(tmp_path / "b.tif", pixels)
    text = r"a\.tif is an input of this run, or holds one .*, and is not replaced by its result"
    before = a.read_bytes()
    for spec, out in ((a, a), (tmp_path, tmp_path), ([tmp_path / "b.tif", a], tmp_path)):
        for option in ("force", "resume"):
            with pytest.raises(ValueError, match=text.replace("a", "[ab]", 1)):
                predict(spec, model, out, progress=False, **{option: True})
    scale = put(tmp_path / "uncertainty" / "b.tif", pixels)
    with pytest.raises(ValueError, match=text.replace("a", "b", 1)):
        predict(scale, model, tmp_path / "b.tif", uncertainty=True, force=True, progress=False)
    assert a.read_bytes() == before


def test_a_second_run_into_an_output_is_refused_while_the_first_lives(tmp_path, model, pixels):
    for name in "ab":
        put(tmp_path / "in" / f"{name}.tif", pixels)
    out = tmp_path / "out"
    out.mkdir()
    text = r"{}\.tif is being written by another run: wait until it is over, or choose another out"
    with filelock.FileLock(out / ".lock.a.tif"):
        with pytest.raises(BlockingIOError, match=text.format("a")):
            predict(tmp_path / "in", model, out, progress=False)
        predict(tmp_path / "in" / "b.tif", model, out / "b.tif", progress=False)
    (out / "b.tif").unlink()
    with (
        filelock.FileLock(out / ".lock.b.tif"),
        pytest.raises(Failures, match="1 of 2 .*" + text.format("b")[:32]),
    ):
        predict(tmp_path / "in", model, out, progress=False)
    assert (out / "a.tif").is_file()


def test_a_series_in_tiles_of_its_own_goes_on_with_them(tmp_path, caplog):
    path, _ = movie(tmp_path / "m.tif")
    answers = []

    def network(x):
        if len(answers) == 3:
            raise KeyboardInterrupt
        answers.append(x.shape)
        return x

    model, _ = counting(network, bytes_per_voxel=100.0)
    with pytest.raises(KeyboardInterrupt):
        predict(path, model, tmp_path / "o.tif", max_memory=10_000, progress=False)
    assert set(answers) == {(1, 4, 3, 4, 1)} or len({shape[1:4] for shape in answers}) == 1
    good, calls = counting(bytes_per_voxel=100.0)
    predict(path, good, tmp_path / "o.tif", max_memory="1GB", resume=True, progress=False)
    assert {shape[1:4] for shape in calls} == {shape[1:4] for shape in answers}
    assert readers.read_metadata(tmp_path / "o.tif")["mode"] == "tiles"
    assert caplog.text.count("does not fit the memory") == 1
