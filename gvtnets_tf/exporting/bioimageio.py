"""A network described for bioimage.io, so that deepImageJ, ilastik and others can run it.

The files hold the network alone; the steps before and after it are written in the words of the
specification. Those have no map by the statistics of the *input* for the steps after: where
results would get their units so, they stay normalized, and the README says how to go on.
"""

import importlib.metadata
import re
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gvtnets_tf.checks import import_optional
from gvtnets_tf.data.synthetic import cells
from gvtnets_tf.exporting import readme
from gvtnets_tf.images import writers
from gvtnets_tf.images.display import contrast_limits
from gvtnets_tf.images.image import Image
from gvtnets_tf.prediction.predictor import Predictor
from gvtnets_tf.prediction.tiling import round_up

INPUT, RESULT = "image", "prediction"
DESCRIPTION, README, COVER = "bioimageio.yaml", "README.md", "cover.png"
SAVED_MODEL, ONNX = "saved_model.zip", "model.onnx"
SIZES = {"Z": 16, "Y": 64, "X": 64}  # voxels of the example, rounded up to the divisor
HEIGHT = 256  # pixels of the cover, about


def describe(
    folder: Path, predictor: Predictor, channels: tuple[int, int], opset: int, name: str = "",
    authors: Sequence[str] = (),
) -> None:  # fmt: skip
    """Complete a folder of weights to a package of bioimage.io.

    The folder has `saved_model.zip` and `model.onnx`: the network alone, from `image` to
    `prediction`, which for a probabilistic network holds the scale too, as further channels.
    (Of two results, TensorFlow may give either first.) `channels` are those that go in, and
    those that come out without the scale. The pixels of all examples are simulated.
    """
    spec = import_optional("bioimageio.spec", "bioimageio")
    name = re.sub("[^a-zA-Z0-9_+ ()-]", "_", name)[:64]  # what the specification allows
    image = simulate_image(predictor, channels[0])
    result = _predict(predictor, image)
    _write_examples(folder, predictor.card, image, result)
    (folder / README).write_text(readme.format_page(predictor, name), encoding="utf-8")
    content = {
        "format_version": spec.model.ModelDescr.implemented_format_version,
        "type": "model",
        **_describe_model(predictor, name, authors),
        "inputs": [_describe_input(predictor, channels[0])],
        "outputs": [_describe_output(predictor.card, channels[1])],
        "weights": _describe_weights(opset),
        "config": {"bioimageio": {"reproducibility_tolerance": _choose_tolerances(result)}},
    }
    context = spec.ValidationContext(root=folder, file_name=DESCRIPTION, log_warnings=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # it leaves files to be closed later
        description = spec.build_description(content, context=context)
    if isinstance(description, spec.InvalidDescr):
        errors = description.validation_summary.errors
        text = "; ".join(f"{'.'.join(map(str, e.loc))}: {e.msg}" for e in errors)
        raise ValueError(f"The specification of bioimage.io refuses this model: {text}")
    spec.save_bioimageio_yaml_only(description, folder / DESCRIPTION)


def simulate_image(predictor: Predictor, channels: int) -> np.ndarray:
    """Simulate camera counts `(*grid, channels)`, in the range a fixed normalization expects."""
    card = predictor.card
    grid = round_up([SIZES[letter] for letter in card.axes], predictor.divisor)
    task = "projection" if card.axes != card.output_axes else "denoising"
    shape = (SIZES["Z"], *grid)[-3:]
    light = [cells.simulate_pair(task, shape, seed)[0].array for seed in range(channels)]
    light = np.stack(light, axis=-1)
    light = light if len(grid) == 3 else light[len(light) // 2]
    # A network without normalization was trained on values that need none.
    known = {"fixed": (card.input_normalizer.offset, card.input_normalizer.gain), "none": (0, 1)}
    offset, gain = known.get(card.input_normalizer.kind, (100, 1000))
    return (light * np.asarray(gain) + np.asarray(offset)).astype(np.float32)


def _predict(predictor, image):
    """Predict an image as the package does, as far as the specification can follow."""
    card = predictor.card
    if _find_units(card) is None:
        card = card.changed(denormalize="none")
    predictor = Predictor(predictor.model, card.changed(trained_channels=()))
    result = predictor(image, card.axes + "C", whole=True, uncertainty=card.probabilistic)
    return np.concatenate(result, axis=-1) if card.probabilistic else result


def _find_units(card):
    """Find offset and gain of the results, where they do not depend on the image."""
    if card.denormalize == "stored":
        return card.target_affine.offset, card.target_affine.gain
    rule = card.input_normalizer
    fixed = card.denormalize == "input" and rule.kind == "fixed"
    return (rule.offset, rule.gain) if fixed else None


def _write_examples(folder, card, image, result):
    for name, array, axes in ((INPUT, image, card.axes), (RESULT, result, card.output_axes)):
        np.save(folder / f"{name}.npy", array[None])
        writers.write(folder / f"{name}.tif", Image(array, axes + "C", card.voxel_size))
    cover = np.hstack([_draw_panel(array[..., 0]) for array in (image, result)])
    writers.write(folder / COVER, Image(cover, "YX"))


def _draw_panel(x):
    """Draw the middle plane in gray, enlarged."""
    plane = x if x.ndim == 2 else x[len(x) // 2]
    low, high = contrast_limits(plane)
    gray = np.clip((plane - low) / (high - low), 0, 1) * 255
    times = max(HEIGHT // len(plane), 1)
    return gray.astype(np.uint8).repeat(times, 0).repeat(times, 1)


def _describe_model(predictor, name, authors):
    card, network = predictor.card, type(predictor.model).__name__
    about = {
        **readme.describe(predictor, name),
        "authors": [{"name": author} for author in authors],
        "tags": [f"{len(card.axes)}d", "gvtnets_tf", network.lower(), "tensorflow", "onnx"],
        "documentation": {"source": README},
        "covers": [{"source": COVER}],
    }
    return about | ({"license": card.license} if card.license else {})


def _describe_input(predictor, channels):
    card = predictor.card
    grid = [
        _describe_axis(card, letter) | {"size": {"min": divisor, "step": divisor}}
        for letter, divisor in zip(card.axes, predictor.divisor)
    ]
    names = _name_channels(card.input_channels, channels)
    steps = _describe_normalizer(card.input_normalizer, [axis["id"] for axis in grid], channels)
    return _describe_tensor(INPUT, grid, names) | {"preprocessing": steps}


def _describe_output(card, channels):
    grid = [
        _describe_axis(card, letter) | {"size": {"tensor_id": INPUT, "axis_id": letter.lower()}}
        for letter in card.output_axes
    ]
    names = _name_channels(card.output_channels, channels)
    offset, gain = (np.broadcast_to(v, channels) for v in _find_units(card) or (0.0, 1.0))
    if card.probabilistic:  # a scale has a gain, and no offset
        names += [f"scale of {name}" for name in names]
        offset, gain = np.append(offset, 0 * offset), np.append(gain, gain)
    steps = _describe_linear(gain, offset)
    return _describe_tensor(RESULT, grid, names) | {"postprocessing": steps}


def _name_channels(names, count):
    return list(names) or [f"channel {i}" for i in range(count)]


def _describe_tensor(name, grid, channels):
    return {
        "id": name,
        "axes": [{"type": "batch"}, *grid, {"type": "channel", "channel_names": channels}],
        "data": {"type": "float32"},
        "test_tensor": {"source": f"{name}.npy"},
        "sample_tensor": {"source": f"{name}.tif"},
    }


def _describe_axis(card, letter):
    size = card.voxel_size.get(letter)
    known = {"scale": size, "unit": "micrometer"} if size else {}
    return {"type": "space", "id": letter.lower()} | known


def _describe_normalizer(rule, axes, channels):
    """Write a `Normalizer` in the words of the specification: each image and channel by itself."""
    spread = {"axes": axes}
    if rule.kind == "percentile":
        spread |= {"min_percentile": rule.low, "max_percentile": rule.high}
        return [{"id": "scale_range", "kwargs": spread}]
    if rule.kind == "zscore":
        return [{"id": "zero_mean_unit_variance", "kwargs": spread}]
    if rule.kind == "unit":
        after = _describe_linear([2.0] * channels, [-1.0] * channels)
        return [{"id": "scale_range", "kwargs": spread}, *after]
    if rule.kind == "fixed":
        offset, gain = np.asarray(rule.offset), np.asarray(rule.gain)
        return _describe_linear(1 / gain, -offset / gain)
    return []


def _describe_linear(gain, offset):
    """Write `x * gain + offset` of each channel; the specification refuses an identity."""
    gain, offset = (np.asarray(v, float).tolist() for v in (gain, offset))
    if set(gain) == {1.0} and set(offset) == {0.0}:
        return []
    return [{"id": "scale_linear", "kwargs": {"axis": "channel", "gain": gain, "offset": offset}}]


def _describe_weights(opset):
    saved = {"source": SAVED_MODEL, "tensorflow_version": importlib.metadata.version("tensorflow")}
    onnx = {"source": ONNX, "opset_version": opset, "parent": "tensorflow_saved_model_bundle"}
    return {"tensorflow_saved_model_bundle": saved, "onnx": onnx}


def _choose_tolerances(result):
    """Allow runtimes to differ by a ten-thousandth of the range of the result."""
    # The specification wants less than a hundredth of the largest value.
    most = float(min(1e-4 * np.ptp(result), 5e-3 * result.max()))
    return [{"absolute_tolerance": most, "relative_tolerance": 1e-3}] if most > 0 else []
