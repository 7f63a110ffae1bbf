"""Options are checked when they are made, and say whether two runs are the same."""

import dataclasses
import json

import numpy as np
import pytest

from gvtnets_tf.images.image import Image
from gvtnets_tf.images.normalization import Affine, Normalizer
from gvtnets_tf.images.readers import read_metadata
from gvtnets_tf.prediction import partial_results
from gvtnets_tf.prediction.files import predict
from gvtnets_tf.prediction.options import PredictionOptions, collect_options
from gvtnets_tf.prediction.predictor import Predictor
from gvtnets_tf.zoo.card import Card

FLAT = Card("YX", "YX", Normalizer("none"), denormalize="none")
ERRORS = {
    "statistics": ({"statistics": "frames"}, r"`statistics` cannot be 'frames'. .*'frame'"),
    "both": ({"tile": 4, "whole": True}, r"Pass `whole` or `tile`, not both. Received: tile=4"),
    "blend": ({"blend": "crops"}, r"`blend` cannot be 'crops'. Did you mean 'crop'"),
    "estimate": ({"estimate": "meen"}, r"`estimate` cannot be 'meen'. Did you mean 'mean'"),
    "precision": ({"precision": "float16"}, r"`precision` cannot be 'float16'. .*'bfloat16'"),
    "batch": ({"batch_size": 0}, r"`batch_size` must be at least 1. Received: batch_size=0"),
    "size": ({"max_memory": "much"}, r"such as 4GiB or 500MB. Received: 'much'"),
    "dtype": ({"dtype": "uint17"}, r"`dtype` cannot be 'uint17'. Did you mean 'uint16'"),
    "inputs": ({"input_channels": []}, r"at least one channel, or leave `input_channels` out"),
    "outputs": ({"output_channels": ()}, r"at least one channel, or leave `output_channels` out"),
    "unknown": ({"output_chanels": ["a"]}, r"`option` cannot be .* Did you mean 'output_channels'"),
}


@pytest.mark.parametrize("case", ERRORS)
@pytest.mark.parametrize("way", ["options", "files", "array"])
def test_what_no_run_can_do_is_refused_by_name(tmp_path, case, way):
    given, message = ERRORS[case]
    predictor = Predictor(lambda x: pytest.fail("the network must not run"), FLAT)
    with pytest.raises(ValueError, match=message):
        if way == "options":
            collect_options(None, given)
        elif way == "files":
            predict(tmp_path / "none.tif", predictor, tmp_path / "out.tif", **given)
        else:
            predictor(np.ones((4, 4)), **given)


def test_options_are_frozen_and_fields_come_on_top_of_them():
    options = PredictionOptions(tile=8, blend="ramp")
    with pytest.raises(dataclasses.FrozenInstanceError):
        options.tile = 4
    changed = collect_options(options, {"tile": 4})
    assert (changed.tile, changed.blend, options.tile) == (4, "ramp", 8)
    assert collect_options(options, {}) == options
    assert PredictionOptions(output_channels="dna") == PredictionOptions(output_channels=("dna",))


def test_the_resume_key_holds_all_that_a_result_depends_on():
    names = {field.name for field in dataclasses.fields(PredictionOptions)}
    assert set(PredictionOptions().resume_key()) == names - {"max_memory", "batch_size"}
    same = PredictionOptions(max_memory="1GiB", batch_size=7).resume_key()
    assert same == PredictionOptions().resume_key()
    assert PredictionOptions(tile=8).resume_key() != same


def test_a_stopped_run_goes_on_with_equal_options_of_another_type(tmp_path):
    def key(offset, tile):
        affine = Affine(np.array([offset]), np.array([2.0]))
        options = PredictionOptions(statistics=affine, tile=tile, frames=slice(0, 4))
        return options.resume_key()

    out = tmp_path / "a.tif"
    image = Image(np.zeros((2, 2), np.float32), "YX")
    with pytest.raises(KeyboardInterrupt), partial_results.keep_parts(out, key(7.0, [8])) as parts:
        parts.put(0, [image], {})
        raise KeyboardInterrupt
    kept = json.loads((partial_results.parts_folder(out) / "settings.json").read_text())
    assert kept["statistics"] == {"offset": [7.0], "gain": [2.0]}
    with pytest.raises(ValueError, match=r"settings: statistics was [^;]*7[^;]*8[^;]*Repeat"):
        partial_results.keep_parts(out, key(8.0, (8,)), resume=True).__enter__()
    with partial_results.keep_parts(out, key(7.0, (8,)), resume=True) as parts:
        assert parts.get(0) is not None


def test_options_of_loading_and_of_files_are_refused_where_they_would_do_nothing():
    predictor = Predictor(lambda x: x, FLAT)
    with pytest.raises(ValueError, match=r"`dtype` is of files, and an array is float32: write it"):
        predictor(np.ones((4, 4)), dtype="uint16")
    with pytest.raises(ValueError, match=r"`precision` is chosen when a model is loaded.*float32"):
        predictor(np.ones((4, 4)), precision="bfloat16")


def test_options_of_inputs_count_for_images_too():
    x = np.random.default_rng(0).random((3, 2, 4, 6)).astype(np.float32)
    image = Image(x, "TCYX", channel_names=("dna", "er"))
    predictor = Predictor(np.copy, FLAT)
    result, _ = predictor.predict(
        image, frames="1:", input_channels=["er"], voxel_size={"Y": 0.5, "X": 0.25}
    )
    np.testing.assert_array_equal(result.numpy("TYX"), x[1:, 1])
    assert result.voxel_size == {"Y": 0.5, "X": 0.25}
    swapped, _ = predictor.predict(Image(x[0, 0], "YX"), axes="XY")
    assert swapped.axes == "XY"
    np.testing.assert_array_equal(swapped.array, x[0, 0])


def test_the_precision_of_each_model_is_recorded(tmp_path):
    class Half:
        compute_dtype = "bfloat16"

        def __call__(self, x):
            return x

    np.save(tmp_path / "a.npy", np.ones((4, 4)))
    half, full = Predictor(Half(), FLAT), Predictor(np.copy, FLAT)
    (out,) = predict(tmp_path / "a.npy", half, tmp_path / "o.tif", axes="YX", precision="bfloat16")
    assert read_metadata(out)["precision"] == "bfloat16"
    out, _ = predict(
        tmp_path / "a.npy", {"half": half, "full": full}, tmp_path / "o.ome.tif", axes="YX"
    )
    said = read_metadata(out)["models"]
    assert [model["precision"] for model in said] == ["bfloat16", "float32"]
