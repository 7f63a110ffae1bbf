"""Several models, one input, one image with a channel for each."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image as Picture

from gvtnets_tf import predict
from gvtnets_tf.data import sources
from gvtnets_tf.images import readers, writers
from gvtnets_tf.images.formats import tiff
from gvtnets_tf.images.image import Image
from gvtnets_tf.images.normalization import Normalizer
from gvtnets_tf.prediction import tiled_network, time_series
from gvtnets_tf.prediction.engines.keras import compile_model
from gvtnets_tf.prediction.predictor import Predictor
from gvtnets_tf.zoo import model_folder
from gvtnets_tf.zoo.card import Card

FIRST = Path(__file__).parents[1] / "data_folder_v1"
SIZE = {"Z": 0.3, "Y": 0.1, "X": 0.1}
CUBES = {"Z": 0.3, "Y": 0.3, "X": 0.3}
QUIET = {"progress": False}


class Model:
    """A network of NumPy that counts its calls."""

    def __init__(self, function, divisor=1):
        self.function, self.divisor, self.calls = function, divisor, 0

    def __call__(self, x):
        self.calls += 1
        return self.function(x)


def predictor(function=np.copy, divisor=1, kind="zscore", **card):
    card = Card(input_normalizer=Normalizer(kind), denormalize="none", **card)
    return Predictor(Model(function, divisor), card)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).poisson(100, shape).astype(np.uint16)


@pytest.fixture
def stack(tmp_path):
    """A stack on disk; pages are decoded one by one."""
    return writers.write(tmp_path / "cells.tif", Image(noise(6, 20, 24), "ZYX", SIZE))


def mixed():
    """Models of other depth, padding, normalization, axes and channels."""
    return {
        "first": predictor(lambda x: 2 * x, 8, output_channels=("dna",)),
        "second": predictor(lambda x: x + 1, (1, 16, 16), "none", output_channels=("er",)),
        "planes": predictor(lambda x: -x, 4, axes="YX", output_axes="YX"),
        "pair": predictor(lambda x: np.concatenate([x, 3 * x], -1), output_channels=("a", "dna")),
    }


@pytest.mark.filterwarnings("ignore:.*fewer than")
@pytest.mark.parametrize("suffix", [".ome.tif", ".zarr"])
def test_models_that_differ_go_into_one_image_with_names_and_colors(tmp_path, stack, suffix):
    if suffix == ".zarr":
        pytest.importorskip("zarr", reason="needs [zarr]")
    models = mixed()
    written = predict(stack, models, tmp_path / f"out{suffix}", **QUIET)
    assert written == [tmp_path / f"out{suffix}", tmp_path / "out.png"]
    found = readers.read(written[0])
    assert (found.axes, found.shape) == ("CZYX", (5, 6, 20, 24))
    assert found.channel_names == ("first dna", "er", "planes", "a", "pair dna")
    assert found.voxel_size == pytest.approx(SIZE)
    assert len(set(readers.read_colors(written[0]))) == 5
    channel = 0
    for model in models.values():
        alone, _ = model.predict(readers.read(stack))
        for expected in alone.numpy("CZYX"):
            np.testing.assert_array_equal(found.numpy()[channel], expected)
            channel += 1
    said = readers.read_metadata(written[0])["models"]
    assert [m["model"] for m in said] == list(models)
    assert said[1]["statistics"] == [{"offset": [0.0], "gain": [1.0]}]
    assert {p.name for p in tmp_path.iterdir()} == {"cells.tif", f"out{suffix}", "out.png"}


def test_the_figure_shows_the_maximum_over_z_of_each_channel_in_its_color(tmp_path):
    x = np.zeros((4, 16, 20), np.float32)
    x[1, :8], x[3, :, :10] = 50, 90
    path = writers.write(tmp_path / "cells.tif", Image(x, "ZYX"))
    upper = predictor(lambda x: np.where(x == 50, x, 0), kind="none")
    left = predictor(lambda x: np.where(x == 90, x, 0), kind="none")
    models, colors = {"upper": upper, "left": left}, ["#ff0000", "#0000ff"]
    _, figure = predict(path, models, tmp_path / "out.ome.tif", colors=colors, **QUIET)
    shown = np.asarray(Picture.open(figure))
    corners = [tuple(shown[y, x]) for y in (0, 15) for x in (0, 19)]
    assert corners == [(255, 0, 255), (255, 0, 0), (0, 0, 255), (0, 0, 0)]
    assert readers.read_colors(tmp_path / "out.ome.tif") == tuple(colors)


def test_five_models_read_the_file_once_and_prepare_it_once_per_kind(tmp_path, monkeypatch):
    pytest.importorskip("imagecodecs", reason="needs [io]")
    x = noise(6, 20, 24)
    path = tmp_path / "cells.ome.tif"
    sizes = {f"PhysicalSize{a}": s for a, s in SIZE.items()}
    tifffile.imwrite(path, x, compression="zlib", metadata={"axes": "ZYX", **sizes})

    from scipy import ndimage

    counts = {"opened": 0, "pages": 0, "measured": 0, "resampled": 0}

    def counted(name, function):
        def count(*args, **kwargs):
            counts[name] += 1
            return function(*args, **kwargs)

        return count

    def scored():
        return predictor(lambda x: 2 * x, voxel_size=CUBES)

    other = predictor(np.copy, kind="percentile", voxel_size=CUBES)
    own = predictor(np.copy, voxel_size=SIZE)
    models = {"a": scored(), "b": other, "c": scored(), "d": scored(), "e": own}
    monkeypatch.setattr(sources, "read", counted("opened", sources.read))
    monkeypatch.setattr(tiff, "_read_page", counted("pages", tiff._read_page))
    monkeypatch.setattr(time_series, "_measure", counted("measured", time_series._measure))
    monkeypatch.setattr(ndimage, "zoom", counted("resampled", ndimage.zoom))
    kept = []
    monkeypatch.setattr(
        "gvtnets_tf.prediction.partial_results.Parts.put", lambda self, *parts: kept.append(parts)
    )
    predict(path, models, tmp_path / "out.ome.tif", resample=True, **QUIET)
    # Three preparations; two of them resample, and four results are brought back.
    assert counts == {"opened": 1, "pages": 6, "measured": 3, "resampled": 2 + 4}
    assert len(kept) == 5


def test_each_model_is_loaded_once_for_all_inputs(tmp_path, monkeypatch):
    for name in ("a", "b"):
        writers.write(tmp_path / "in" / f"{name}.tif", Image(noise(4, 20, 24), "ZYX", SIZE))
    models = [shutil.copytree(FIRST, tmp_path / name) for name in ("dna", "er")]
    calls, made, read = [], [], model_folder.read_model

    def counted(path, *args):
        calls.append(path.name)
        return read(path, *args)

    def compiled(model, **kwargs):
        made.append(model)
        return compile_model(model, **kwargs)

    monkeypatch.setattr(model_folder, "read_model", counted)
    monkeypatch.setattr(tiled_network, "compile_model", compiled)
    with pytest.warns(UserWarning, match="trained on"):
        outs = predict(tmp_path / "in", models, tmp_path / "out", **QUIET)
    assert calls == ["dna", "er"]
    assert len(made) == 2  # a graph for each
    found = readers.read(outs[0])
    known = read(FIRST)[1].output_channels
    assert found.channel_names == tuple(f"{n.name} {c}" for n in models for c in known)
    with pytest.warns(UserWarning, match="trained on"):
        predict(tmp_path / "in" / "a.tif", FIRST, tmp_path / "one.tif", **QUIET)
    np.testing.assert_array_equal(found.numpy()[0], readers.read(tmp_path / "one.tif").numpy())
    # Where nothing is missing, nothing is loaded.
    before = len(calls)
    assert predict(tmp_path / "in", models, tmp_path / "out", resume=True, **QUIET) == outs
    assert len(calls) == before


def test_one_model_may_be_given_as_a_list_or_with_a_name(tmp_path, stack):
    model = predictor(output_channels=("dna",))
    for models, name in (([model], ""), ({"nuclei": model}, "nuclei")):
        (out,) = predict(stack, models, tmp_path / f"{name}.tif", **QUIET)
        assert readers.read_metadata(out)["model"] == name
    with pytest.raises(ValueError, match=r"`colors` are of an image of several models"):
        predict(stack, model, tmp_path / "c.tif", colors=["#ff0000"], **QUIET)


def test_folders_of_one_name_are_told_apart_by_their_paths(tmp_path, stack):
    for name in ("a", "b"):
        shutil.copytree(FIRST, tmp_path / name / "model")
    models = [tmp_path / "a" / "model", str(tmp_path / "b" / "model")]
    with pytest.warns(UserWarning, match="trained on"):
        out, _ = predict(stack, models, tmp_path / "out.ome.tif", **QUIET)
    said = readers.read_metadata(out)["models"]
    assert [m["model"] for m in said] == [str(m) for m in models]
    with pytest.raises(ValueError, match=r"a/model is given twice: name each model once"):
        predict(stack, [models[0], models[0]], tmp_path / "b.ome.tif", **QUIET)


def test_models_whose_results_have_other_axes_are_refused(tmp_path, stack):
    models = {"dna": predictor(), "surface": predictor(lambda x: x.max(1), output_axes="YX")}
    with pytest.raises(
        ValueError,
        match=r"do not go into one image.*: dna predicts ZYX from ZYX, surface YX from ZYX\. Pre",
    ):
        predict(stack, models, tmp_path / "out.ome.tif", **QUIET)
    assert models["dna"].model.calls == 0
    with pytest.raises(ValueError, match="There is no model to predict with"):
        predict(stack, [], tmp_path / "out.ome.tif", **QUIET)


def test_what_one_image_cannot_hold_is_refused(tmp_path, stack):
    models, out = [predictor(), predictor()], tmp_path / "out.ome.tif"
    with pytest.raises(ValueError, match=r"scale .* is written for one model at a time"):
        predict(stack, models, out, uncertainty=True, **QUIET)
    message = r"one '#rrggbb' for each of the 2 channels \(model 0, model 1\)\. Received: \['#ff"
    with pytest.raises(ValueError, match=message):
        predict(stack, models, out, colors=["#ff0000"], **QUIET)
    assert not out.exists()
    predict(stack, models, out, colors=["#ff0000", "#0000ff"], resume=True, **QUIET)
    assert [m.model.calls for m in models] == [1, 1]  # nothing was lost by the wrong colors


def test_each_model_takes_the_channels_that_its_card_names(tmp_path):
    x = noise(3, 4, 10, 12)
    path = tmp_path / "cells.ome.tif"
    writers.write(path, Image(x, "CZYX", SIZE, ("phase", "DIC", "dna")))
    models = {
        "a": predictor(kind="none", input_channels=("DIC",)),
        "b": predictor(kind="none", input_channels=("phase",)),
        "c": predictor(lambda x: x[..., :1], kind="none", input_channels=("dna", "phase")),
    }
    out, _ = predict(path, models, tmp_path / "out.ome.tif", **QUIET)
    np.testing.assert_array_equal(readers.read(out).numpy(), x[[1, 0, 2]])
    models["d"] = predictor(input_channels=("brightfield",))
    with pytest.raises(
        ValueError,
        match=r"cells has no channel 'brightfield', which the model reads: choose with --input-ch.*"
        r"3 \(phase, DIC, dna\)",
    ):
        predict(path, models, tmp_path / "b.ome.tif", **QUIET)
    with pytest.raises(ValueError, match=r"cells has no channel 'er': it has 3 \(phase, DIC, dna"):
        predict(path, models, tmp_path / "b.ome.tif", input_channels=["er"], **QUIET)


def test_several_inputs_go_into_a_folder(tmp_path):
    for name in ("a", "b"):
        writers.write(tmp_path / "in" / f"{name}.tif", Image(noise(3, 8, 9), "ZYX"))
    models = [predictor(), predictor(lambda x: 2 * x)]
    found = predict(tmp_path / "in", models, tmp_path / "out", dtype="float32", **QUIET)
    names = [p.relative_to(tmp_path / "out").name for p in found]
    assert names == ["a.ome.tif", "a.png", "b.ome.tif", "b.png"]
    assert readers.read(found[2]).channel_names == ("model 0", "model 1")
    with pytest.raises(ValueError, match=r"`suffix of the output` cannot be '\.tif'.*'\.ome\.tif'"):
        predict(tmp_path / "in" / "a.tif", models, tmp_path / "x.tif", **QUIET)
    with pytest.raises(FileExistsError, match=r"a\.ome\.tif exists and is not overwritten"):
        predict(tmp_path / "in", models, tmp_path / "out", **QUIET)


def test_a_series_of_many_structures_has_a_movie_in_colors(tmp_path):
    x = noise(3, 4, 10, 12) * np.arange(1, 4, dtype=np.uint16).reshape(-1, 1, 1, 1)
    path = writers.write(tmp_path / "m.tif", Image(x, "TZYX", {"T": 2.0, **SIZE}))
    models = {"a": predictor(), "b": predictor(lambda x: -x)}
    written = predict(
        path, models, tmp_path / "out.ome.tif", statistics="series", frames="1:",
        gif=tmp_path / "m.gif", gif_plane=0, **QUIET,
    )  # fmt: skip
    assert [p.name for p in written] == ["out.ome.tif", "out.png", "m.gif"]
    found = readers.read(written[0])
    assert (found.axes, found.shape) == ("TCZYX", (2, 2, 4, 10, 12))
    late = x[1:].astype(np.float64)
    expected = (late - late.mean()) / late.std()
    np.testing.assert_allclose(found.numpy()[:, 0], expected, rtol=1e-4, atol=1e-5)
    with Picture.open(written[2]) as movie:
        assert movie.n_frames == 2
        assert np.ptp(np.asarray(movie.convert("RGB")).astype(int), axis=-1).max() > 50
    said = readers.read_metadata(written[0])
    assert (said["frames"], said["models"][0]["statistics_of"]) == ("1:", "series")


def test_a_run_that_stopped_goes_on_with_the_next_model(tmp_path, stack):
    def stop(x):
        raise KeyboardInterrupt

    broken = {"a": predictor(), "b": predictor(stop), "c": predictor()}
    out = tmp_path / "out.ome.tif"
    with pytest.raises(KeyboardInterrupt):
        predict(stack, broken, out, **QUIET)
    names = {p.name for p in tmp_path.iterdir()}
    assert names == {"cells.tif", ".out.ome.tif.parts"}
    models = {"a": predictor(), "b": predictor(lambda x: 2 * x), "c": predictor()}
    with pytest.raises(FileExistsError, match=r"left parts of .*out\.ome\.tif.*--resume"):
        predict(stack, models, out, **QUIET)
    with pytest.raises(ValueError, match=r"other settings: tile was None, is 4\. Repeat"):
        predict(stack, models, out, resume=True, tile=4, **QUIET)
    # Smaller batches may help a run that was killed for its memory: that is no other run.
    predict(stack, models, out, resume=True, batch_size=2, whole=False, **QUIET)
    assert [m.model.calls for m in models.values()] == [0, 1, 1]
    x = readers.read(out).numpy()
    np.testing.assert_allclose(x[1], 2 * x[0])
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]
