"""A network described for bioimage.io, so that deepImageJ, ilastik and others can run it.

The files hold the network alone; what comes before and after it is said in the words of the
specification. Those have no map by the statistics of the *input* for what comes after: where
results would get their units so, they stay normalized, and the README says how to go on.
"""

import importlib.metadata
import re
import warnings

import numpy as np

from gvtnets_tf.checks import import_optional
from gvtnets_tf.data.synthetic import cells
from gvtnets_tf.exporting import readme
from gvtnets_tf.images import writers
from gvtnets_tf.images.image import Image
from gvtnets_tf.prediction.predictor import Predictor
from gvtnets_tf.prediction.tiling import round_up

INPUT, RESULT = "image", "prediction"
DESCRIPTION, README, COVER = "bioimageio.yaml", "README.md", "cover.png"
SAVED_MODEL, ONNX = "saved_model.zip", "model.onnx"
SIZES = {"Z": 16, "Y": 64, "X": 64}  # voxels of the example, rounded up to the divisor
HEIGHT = 256  # pixels of the cover, about


def describe(folder, predictor, channels, opset, name="", authors=()):
    """Add to a folder of weights what makes it a package of bioimage.io.

    That is `bioimageio.yaml`, `README.md`, test tensors, samples and a cover, whose pixels
    are simulated.

    Args:
        folder: `Path` with `saved_model.zip` and `model.onnx`: the network alone, from
            `image` to `prediction`, which for a probabilistic network holds the scale too,
            as further channels. (Of two results, TensorFlow may give either first.)
        predictor: `Predictor` of the network.
        channels: ints. Channels that go in, and that come out without the scale.
        opset: int. Of the ONNX file.
        name: str. What to call the model, besides its class.
        authors: sequence of str. Their names.

    Raises:
        ModuleNotFoundError: if the package `bioimageio.core` is not installed.
        ValueError: with what the specification refuses, e.g. an unknown license.
    """
    spec = import_optional("bioimageio.spec", "bioimageio")
    name = re.sub("[^a-zA-Z0-9_+ ()-]", "_", name)[:64]  # what the specification allows
    image = example(predictor, channels[0])
    result = _result(predictor, image)
    _write_examples(folder, predictor.card, image, result)
    (folder / README).write_text(readme.page(predictor, name), encoding="utf-8")
    content = {
        "format_version": spec.model.ModelDescr.implemented_format_version,
        "type": "model",
        **_about(predictor, name, authors),
        "inputs": [_input(predictor, channels[0])],
        "outputs": [_output(predictor.card, channels[1])],
        "weights": _weights(opset),
        "config": {"bioimageio": {"reproducibility_tolerance": _tolerances(result)}},
    }
    context = spec.ValidationContext(root=folder, file_name=DESCRIPTION, log_warnings=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # it leaves files to be closed later
        made = spec.build_description(content, context=context)
    if isinstance(made, spec.InvalidDescr):
        errors = made.validation_summary.errors
        told = "; ".join(f"{'.'.join(map(str, e.loc))}: {e.msg}" for e in errors)
        raise ValueError(f"The specification of bioimage.io refuses this model: {told}")
    spec.save_bioimageio_yaml_only(made, folder / DESCRIPTION)


def example(predictor, channels):
    """Simulated camera counts that a network can read whole.

    Args:
        predictor: `Predictor`.
        channels: int. Channels that the network reads.

    Returns:
        Float32 array `(*grid, channels)`, in the range that a fixed normalization expects.
    """
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


def _result(predictor, image):
    """What the package answers to an image, as far as the specification can follow it."""
    card = predictor.card
    if _units(card) is None:
        card = card.changed(denormalize="none")
    predictor = Predictor(predictor.model, card.changed(trained_channels=()))
    found = predictor(image, card.axes + "C", whole=True, uncertainty=card.probabilistic)
    return np.concatenate(found, axis=-1) if card.probabilistic else found


def _units(card):
    """Offset and gain that give results their units, where no image need be seen for them."""
    rule = {"stored": card.target_normalizer, "input": card.input_normalizer, "none": None}[
        card.denormalize
    ]
    return (rule.offset, rule.gain) if rule and rule.kind == "fixed" else None


def _write_examples(folder, card, image, result):
    for name, array, axes in ((INPUT, image, card.axes), (RESULT, result, card.output_axes)):
        np.save(folder / f"{name}.npy", array[None])
        writers.write(folder / f"{name}.tif", Image(array, axes + "C", card.voxel_size))
    cover = np.hstack([_panel(array[..., 0]) for array in (image, result)])
    writers.write(folder / COVER, Image(cover, "YX"))


def _panel(x):
    """The middle plane in gray, enlarged."""
    plane = x if x.ndim == 2 else x[len(x) // 2]
    low, high = np.percentile(plane, (0.5, 99.8))
    gray = np.clip((plane - low) / ((high - low) or 1), 0, 1) * 255
    times = max(HEIGHT // len(plane), 1)
    return gray.astype(np.uint8).repeat(times, 0).repeat(times, 1)


def _about(predictor, name, authors):
    card, network = predictor.card, type(predictor.model).__name__
    about = {
        **readme.about(predictor, name),
        "authors": [{"name": author} for author in authors],
        "tags": [f"{len(card.axes)}d", "gvtnets_tf", network.lower(), "tensorflow", "onnx"],
        "documentation": {"source": README},
        "covers": [{"source": COVER}],
    }
    return about | ({"license": card.license} if card.license else {})


def _input(predictor, channels):
    card = predictor.card
    grid = [
        _space(card, letter) | {"size": {"min": divisor, "step": divisor}}
        for letter, divisor in zip(card.axes, predictor.divisor)
    ]
    names = _channels(card.input_channels, channels)
    before = _before(card.input_normalizer, [axis["id"] for axis in grid], channels)
    return _tensor(INPUT, grid, names) | {"preprocessing": before}


def _output(card, channels):
    grid = [
        _space(card, letter) | {"size": {"tensor_id": INPUT, "axis_id": letter.lower()}}
        for letter in card.output_axes
    ]
    names = _channels(card.output_channels, channels)
    offset, gain = (np.broadcast_to(v, channels) for v in _units(card) or (0.0, 1.0))
    if card.probabilistic:  # a scale has a gain, and no offset
        names += [f"scale of {name}" for name in names]
        offset, gain = np.append(offset, 0 * offset), np.append(gain, gain)
    return _tensor(RESULT, grid, names) | {"postprocessing": _linear(gain, offset)}


def _channels(names, count):
    return list(names) or [f"channel{i}" for i in range(count)]


def _tensor(name, grid, channels):
    return {
        "id": name,
        "axes": [{"type": "batch"}, *grid, {"type": "channel", "channel_names": channels}],
        "data": {"type": "float32"},
        "test_tensor": {"source": f"{name}.npy"},
        "sample_tensor": {"source": f"{name}.tif"},
    }


def _space(card, letter):
    size = card.voxel_size.get(letter)
    known = {"scale": size, "unit": "micrometer"} if size else {}
    return {"type": "space", "id": letter.lower()} | known


def _before(rule, axes, channels):
    """`Normalizer` in the words of the specification: each image and channel by itself."""
    spread = {"axes": axes}
    if rule.kind == "percentile":
        spread |= {"min_percentile": rule.low, "max_percentile": rule.high}
        return [{"id": "scale_range", "kwargs": spread}]
    if rule.kind == "zscore":
        return [{"id": "zero_mean_unit_variance", "kwargs": spread}]
    if rule.kind == "unit":
        after = _linear([2.0] * channels, [-1.0] * channels)
        return [{"id": "scale_range", "kwargs": spread}, *after]
    if rule.kind == "fixed":
        offset, gain = np.asarray(rule.offset), np.asarray(rule.gain)
        return _linear(1 / gain, -offset / gain)
    return []


def _linear(gain, offset):
    """`x * gain + offset` of each channel; the specification refuses one that changes nothing."""
    gain, offset = (np.asarray(v, float).tolist() for v in (gain, offset))
    if set(gain) == {1.0} and set(offset) == {0.0}:
        return []
    return [{"id": "scale_linear", "kwargs": {"axis": "channel", "gain": gain, "offset": offset}}]


def _weights(opset):
    saved = {
        "source": SAVED_MODEL,
        "tensorflow_version": importlib.metadata.version("tensorflow"),
    }
    onnx = {
        "source": ONNX,
        "opset_version": opset,
        "parent": "tensorflow_saved_model_bundle",
    }
    return {"tensorflow_saved_model_bundle": saved, "onnx": onnx}


def _tolerances(result):
    """Differences between runtimes that may be: a ten-thousandth of the range of the result."""
    # The specification wants less than a hundredth of the largest value.
    most = float(min(1e-4 * np.ptp(result), 5e-3 * result.max()))
    return [{"absolute_tolerance": most, "relative_tolerance": 1e-3}] if most > 0 else []
