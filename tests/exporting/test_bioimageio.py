"""A package is what the specification of bioimage.io allows, and its own tests accept it."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import yaml
from common_checks import set_weights
from PIL import Image

from gvtnets_tf import export
from gvtnets_tf.cli import main as cli
from gvtnets_tf.exporting import bioimageio
from gvtnets_tf.images.normalization import Normalizer
from gvtnets_tf.models.fnet import FNet
from gvtnets_tf.models.gvtnet import GVTNet
from gvtnets_tf.models.projection import ProjectionGVTNet
from gvtnets_tf.prediction.predictor import Predictor
from gvtnets_tf.zoo import model_folder
from gvtnets_tf.zoo.card import Card

pytest.importorskip("bioimageio.core")

PLAIN = {"depth": 2, "encoder_blocks": 0, "decoder_blocks": 0, "norm": None}
STORED = {
    "target_normalizer": Normalizer("fixed", offset=(100.0,), gain=(7.0,)),
    "denormalize": "stored",
}
FIXED = Normalizer("fixed", offset=(10.0, 20.0), gain=(5.0, 3.0))
VOXELS = {"Z": 0.5, "Y": 0.25, "X": 0.25}
# Each kind of normalization, of units and of network once.
CASES = {
    "percentile": (
        {"rank": 3},
        1,
        {"input_normalizer": Normalizer(low=1, high=99.5), "voxel_size": VOXELS},
    ),
    "zscore": (
        {"rank": 3, "scale_head": True},
        1,
        {"input_normalizer": Normalizer("zscore"), **STORED},
    ),
    "unit": (None, 1, {"input_normalizer": Normalizer("unit"), "output_axes": "YX"}),
    "fixed": (
        {"rank": 2, "out_channels": 2, "attention_normalization": "softmax", "chunk": 99},
        2,
        {"input_normalizer": FIXED},
    ),
    "none": ({"rank": 2}, 2, {"input_normalizer": Normalizer("none"), "denormalize": "none"}),
}


def predictor(case, **changes):
    """A small network and its card."""
    config, channels, about = CASES[case]
    keras.utils.set_random_seed(0)
    if config is None:
        plain = {**PLAIN, "filters": 2}
        model = ProjectionGVTNet(projection={"filters": 2}, restoration=plain)
    else:
        model = GVTNet(**{**PLAIN, **config, "filters": 4})
    model.build((None,) * (1 + model.rank) + (channels,))
    axes = "ZYX"[-model.rank :]
    about = {"axes": axes, "output_axes": axes, "license": "CC0-1.0", **about, **changes}
    probabilistic = bool(config and config.get("scale_head"))
    return Predictor(model, Card(probabilistic=probabilistic, **about))


def describe(made, path, **options):
    """Describe weights that are not there: the specification looks at their bytes only."""
    path.mkdir()
    for name in (bioimageio.SAVED_MODEL, bioimageio.ONNX):
        (path / name).write_bytes(b"weights")
    channels = made.model.get_build_config()["input_shape"][-1]
    out = getattr(made.model, "out_channels", 1)
    bioimageio.describe(path, made, (channels, out), 18, **options)
    return yaml.safe_load((path / "bioimageio.yaml").read_text())


def steps(tensor, kind):
    return [s for s in tensor[kind] if s["id"] != "ensure_dtype"]


def linear(gain, offset):
    return {"id": "scale_linear", "kwargs": {"axis": "channel", "gain": gain, "offset": offset}}


def test_what_comes_before_and_after_is_told_in_the_words_of_the_specification(tmp_path):
    found = {case: describe(predictor(case), tmp_path / case) for case in CASES}
    before = {case: steps(about["inputs"][0], "preprocessing") for case, about in found.items()}
    after = {case: steps(about["outputs"][0], "postprocessing") for case, about in found.items()}
    space = {"axes": ["z", "y", "x"]}
    percentiles = {**space, "min_percentile": 1.0, "max_percentile": 99.5}
    assert before["percentile"] == [{"id": "scale_range", "kwargs": percentiles}]
    assert before["zscore"] == [{"id": "zero_mean_unit_variance", "kwargs": space}]
    assert before["unit"] == [{"id": "scale_range", "kwargs": space}, linear([2.0], [-1.0])]
    assert before["fixed"] == [linear([1 / 5, 1 / 3], [-2.0, -20 / 3])]
    assert before["none"] == after["none"] == []
    # Units by the statistics of the input are beyond the specification, stored ones are not.
    assert after["percentile"] == after["unit"] == []
    assert after["zscore"] == [linear([7.0, 7.0], [100.0, 0.0])]  # location, scale
    assert after["fixed"] == [linear([5.0, 3.0], [10.0, 20.0])]


def test_axes_tell_sizes_channels_and_voxels(tmp_path):
    made = predictor("percentile", input_channels=("noisy",), output_channels=("clean",))
    about = describe(made, tmp_path / "package")
    unit = {"unit": "micrometer", "type": "space"}
    size = {"size": {"min": 2, "step": 2}}
    batch, z, y, x, channel = about["inputs"][0]["axes"]
    assert batch == {"type": "batch"}
    assert z == {"id": "z", "scale": 0.5, **size, **unit}
    assert y == {"id": "y", "scale": 0.25, **size, **unit}
    assert x == {"id": "x", "scale": 0.25, **size, **unit}
    assert channel == {"type": "channel", "channel_names": ["noisy"]}
    *_, x, channel = about["outputs"][0]["axes"]
    assert x["size"] == {"tensor_id": "image", "axis_id": "x"}
    assert channel["channel_names"] == ["clean"]
    flat = describe(predictor("unit"), tmp_path / "projection")["outputs"][0]["axes"]
    assert [axis.get("id") for axis in flat] == [None, "y", "x", None]
    scale = describe(predictor("zscore"), tmp_path / "scale")["outputs"][0]["axes"][-1]
    assert scale["channel_names"] == ["channel 0", "scale of channel 0"]


def test_a_package_has_all_that_people_look_for(tmp_path):
    made, path = predictor("percentile"), tmp_path / "package"
    about = describe(made, path, name="my/net", authors=["A. Uthor", "B. Uthor"])
    assert about["name"] == "my_net (GVTNet)"
    assert about["authors"] == [{"name": "A. Uthor"}, {"name": "B. Uthor"}]
    assert about["license"] == "CC0-1.0"
    assert [c["doi"] for c in about["cite"]] == ["10.1038/s42256-020-00283-x"]
    with Image.open(path / "cover.png") as cover:
        assert cover.size == (512, 256)
    assert (path / "cover.png").stat().st_size < 500_000
    for name in ("image", "prediction"):
        assert (path / f"{name}.tif").stat().st_size > 16 * 64 * 64
    text = (path / "README.md").read_text()
    assert "# my_net (GVTNet)" in text and "## Validation" in text
    assert "the percentiles 99.5 and 1 of the input, and add the lower one" in text


def test_test_tensors_are_what_the_package_answers(tmp_path):
    for case in ("zscore", "fixed"):
        made, path = predictor(case), tmp_path / case
        describe(made, path)
        image, found = (np.load(path / f"{name}.npy")[0] for name in ("image", "prediction"))
        axes = made.card.axes + "C"
        expected = made(image, axes, whole=True, uncertainty=made.card.probabilistic)
        if made.card.probabilistic:
            expected = np.concatenate(expected, axis=-1)
        np.testing.assert_array_equal(found, expected)


def test_another_network_is_cited_by_its_own_paper(tmp_path):
    model = FNet(rank=2, filters=2, depth=2)
    model.build((None, None, None, 1))
    set_weights(model)
    made = Predictor(model, Card(axes="YX", output_axes="YX", denormalize="none"))
    about = describe(made, tmp_path / "package")
    assert [c["doi"] for c in about["cite"]] == ["10.1038/s41592-018-0111-2"]
    assert "license" not in about


def test_what_the_specification_refuses_is_an_error_in_one_line(tmp_path):
    made = predictor("none", license="whatever you like")
    with pytest.raises(ValueError, match=r"^The specification of bioimage.io refuses .* license"):
        describe(made, tmp_path / "package")


def test_the_missing_package_names_its_extra_and_nothing_is_left(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "bioimageio.spec", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'gvtnets_tf\[bioimageio\]'"):
        export(predictor("none"), tmp_path / "out", "bioimageio")
    assert not list(tmp_path.iterdir())


TESTED = """
import sys
from bioimageio.core import test_model

for path in sys.argv[1:]:
    summary = test_model(path)
    assert summary.status == "passed", summary.format()
    told = {detail.loc[-1] for detail in summary.details if "weights" in detail.loc}
    assert told == {"onnx", "tensorflow_saved_model_bundle"}, told
assert "gvtnets_tf" not in sys.modules
"""


def accepted(paths, scratch):
    """Run the tests of `bioimageio.core`, in a process that does not know this package."""
    command = [sys.executable, "-c", TESTED, *map(str, paths)]
    done = subprocess.run(command, cwd=scratch, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_the_command_makes_a_zip_that_the_tests_of_bioimageio_accept(tmp_path):
    pytest.importorskip("tf2onnx")
    made = predictor("fixed")
    model = model_folder.write_model(tmp_path / "model", made.model, made.card)
    out = tmp_path / "model.zip"
    cli.main(
        ["export", str(model), "--format", "bioimageio", "--out", str(out), "--author", "A. Uthor"]
    )
    accepted([out], tmp_path)


@pytest.mark.slow
def test_every_package_is_accepted_by_the_tests_of_bioimageio(tmp_path):
    pytest.importorskip("tf2onnx")
    paths = [export(predictor(case), tmp_path / case, "bioimageio") for case in CASES]
    assert {p.name for p in paths[0].iterdir()} == {
        ".gvtnets", "bioimageio.yaml", "README.md", "cover.png", "saved_model.zip", "model.onnx",
        "image.npy", "image.tif", "prediction.npy", "prediction.tif",
    }  # fmt: skip
    accepted([path / "bioimageio.yaml" for path in paths], tmp_path)
