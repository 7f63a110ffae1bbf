"""Pairs of predictions and targets: matched, read one at a time, cut to the same voxels."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from gvtnets_tf.data.in_silico_labeling.file_names import LABELS, NEURITE
from gvtnets_tf.data.pairing import match_pairs
from gvtnets_tf.data.sources import Source, find, is_wells
from gvtnets_tf.evaluation.units import give_target_units
from gvtnets_tf.images.axes import ORDER
from gvtnets_tf.images.image import Image
from gvtnets_tf.images.metadata import file_stem

logger = logging.getLogger("gvtnets_tf")

COMPARED = ("target", "prediction", "baseline")


@dataclass(frozen=True)
class Comparison:
    """One image, with a name that no other has, and all that is compared with it.

    The `"target"`, `"prediction"` and, where given, `"baseline"` of `images` show the same
    voxels and channels; the `"input"` is only shown.
    """

    name: str
    images: Mapping[str, Image]

    @property
    def axes(self) -> str:
        """Axes of the arrays that `channels` returns."""
        return self.images["target"].axes.replace("C", "")

    @property
    def channel_names(self) -> list[str]:
        """Names of the channels that are compared; their numbers where they have none."""
        return _channel_names(self.images["target"])

    def channels(self, *roles: str) -> list[tuple[str, dict[str, np.ndarray]]]:
        """Read images, `COMPARED` by default: per channel its name, and arrays with axes `axes`."""
        roles = [role for role in roles or COMPARED if role in self.images]
        stacks = {role: self.images[role].numpy("C" + self.axes) for role in roles}
        return [
            (name, {role: stack[index] for role, stack in stacks.items()})
            for index, name in enumerate(self.channel_names)
        ]


class Comparisons:
    """The images of an evaluation, read one at a time, in each iteration anew.

    Arguments are those of `evaluation.scoring.evaluate`.
    """

    def __init__(
        self, targets, predictions, baseline=None, inputs=None,
        axes=None, target_channels=None, regions=None,
    ):  # fmt: skip
        others = {"prediction": predictions, "baseline": baseline, "input": inputs}
        self.rows = _pair(targets, {role: x for role, x in others.items() if x is not None})
        self.axes, self.target_channels, self.regions = axes, target_channels, regions or {}

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Comparison]:
        names = {"box"}  # `box.png` is the figure of all images
        for index, row in enumerate(self.rows):
            images = self._read(row, f"{index:03d}")
            yield Comparison(_make_unique(images["target"].name, names), images)

    def _read(self, row, name):
        """Read the images of a row, and crop them to the voxels and channels to compare."""
        images = {role: _open(x, self.axes, name) for role, x in row.items() if role != "target"}
        labels = self.target_channels or images["prediction"].channel_names
        images["target"] = _open(row["target"], self.axes, name, labels)
        for role in [role for role in COMPARED if isinstance(row.get(role), Source)]:
            images[role] = give_target_units(images[role], row[role])
        images = _select_channels(images, self.target_channels)
        _check_same_voxels(images, row)
        # The input is only shown: it may lack an axis, as that of a projection has one more.
        cropped = {
            role: x.crop({k: v for k, v in self.regions.items() if role != "input" or k in x.axes})
            for role, x in images.items()
        }
        return _drop_missing_labels(cropped)


def _pair(targets, others):
    """List, per target, a mapping from role to a `Source`, an `Image` or an array."""
    specs = {"target": targets, **others}
    files = [role for role, spec in specs.items() if _are_files(role, spec)]
    if len(files) not in (0, len(specs)):
        raise ValueError(
            f"Give all images as files, or all as images in memory. Received files for "
            f"{', '.join(files)} only."
        )
    if files:
        return (_match_wells if is_wells(targets) else _match_files)(targets, others)
    images = {role: [x] if _is_image(x) else list(x) for role, x in specs.items()}
    if len({len(x) for x in images.values()}) > 1:
        counts = ", ".join(f"{role} {len(x)}" for role, x in images.items())
        raise ValueError(f"Images in memory pair by order: counts must agree. Received: {counts}.")
    return [dict(zip(images, row)) for row in zip(*images.values())]


def _match_files(targets, others):
    rows = {}
    for role, spec in others.items():
        for path, target in match_pairs(spec, targets):
            row = rows.setdefault(target, {"target": Source(file_stem(target), target)})
            row[role] = Source(file_stem(path), path)
    return list(rows.values())


def _match_wells(folder, others):
    """Pair images with the wells whose names they have; leave out wells without prediction."""
    wells = {well.name: well for well in find(folder)}
    sources = {"target": wells} | {r: _index_by_name(find(spec)) for r, spec in others.items()}
    predictions = sources["prediction"]
    for role, partners in sources.items():
        if alone := [str(x) for name, x in predictions.items() if name not in partners]:
            partner = f"well in {folder}" if role == "target" else role
            raise ValueError(
                f"No {partner} for {', '.join(alone)}. Predictions bear the names of the wells, "
                f"such as {next(iter(wells))}.tif."
            )
    count = len(predictions)
    if count < len(wells):
        logger.warning(f"{folder}: {count} of {len(wells)} wells have a prediction and are scored.")
    return [{role: by_name[name] for role, by_name in sources.items()} for name in predictions]


def _index_by_name(sources):
    names = {source.name: source for source in sources}
    if twins := [str(source) for source in sources if source is not names[source.name]]:
        raise ValueError(f"More than one file bears the name of {', '.join(twins)}: remove one.")
    return names


def _is_image(x):
    return isinstance(x, Image) or hasattr(x, "__array__")


def _are_files(role, spec):
    if isinstance(spec, (str, Path)):
        return True
    if not _is_image(spec) and not len(spec):
        raise ValueError(f"There is nothing to evaluate: the list of {role} images is empty.")
    return not _is_image(spec) and all(isinstance(item, (str, Path)) for item in spec)


def _open(source, axes, name, labels=None):
    """Open an image; of a well its planes or, where `labels` is given, its labels."""
    if isinstance(source, Source):
        if labels is None or not source.well:
            return source.open(axes)
        known = labels and {*LABELS, NEURITE}.issuperset(labels)
        return source.well.target(labels) if known else source.well.target()
    if isinstance(source, Image):
        return replace(source, name=source.name or name)
    array = np.asarray(source)
    if axes is None and array.ndim not in (2, 3):
        raise ValueError(
            f"`axes` must name the axes of image {name}. Received: an array of shape {array.shape}."
        )
    return Image(array, axes or "ZYX"[-array.ndim :], name=name)


def _select_channels(images, channels):
    """Select channels of the target, by name where the prediction has names it knows."""
    target, names = images["target"], images["prediction"].channel_names
    if channels is not None:
        images = images | {"target": target.select_channels(channels)}
        if (baseline := images.get("baseline")) is not None:
            asked = images["target"].channel_names
            if set(asked) <= set(baseline.channel_names):
                images["baseline"] = baseline.select_channels(asked)
            elif baseline.sizes.get("C", 1) > len(channels):  # some are not compared
                images["baseline"] = baseline.select_channels(channels)
        return images
    if not names or len(set(names)) < len(names):
        return images
    # A baseline may show other labels besides, and in another order.
    return {
        role: x.select_channels(names)
        if role in COMPARED and set(names) <= set(x.channel_names) and target.channel_names
        else x
        for role, x in images.items()
    }


def _check_same_voxels(images, row):
    target = images["target"]
    for role in [role for role in COMPARED if role in images]:
        if _sizes(images[role]) != _sizes(target):
            names = {r: x if isinstance(x, Source) else images[r].name for r, x in row.items()}
            raise ValueError(
                f"The {role} {names[role]} and the target {names['target']} do not show the same "
                f"voxels. Received: shape {_describe_shape(images[role])} against "
                f"{_describe_shape(target)}. See `axes` and `target_channels`."
            )


def _sizes(image):
    return {letter: image.sizes.get(letter, 1) for letter in ORDER}


def _describe_shape(image):
    names = f", channels {', '.join(image.channel_names)}" if image.channel_names else ""
    return f"{image.shape} (axes {image.axes}{names})"


def _drop_missing_labels(images):
    """Leave out the channels of which the target is NaN throughout: labels never imaged."""
    target = images["target"]
    if target.array.dtype.kind != "f":
        return images
    target = replace(target, array=target.numpy())  # read once, here
    stack = target.numpy("C" + target.axes.replace("C", ""))
    kept = [i for i, channel in enumerate(stack) if not np.isnan(channel).all()]
    if len(kept) == len(stack):
        return images | {"target": target}
    names = tuple(_channel_names(target))
    if not kept:
        raise ValueError(
            f"{target.name} has none of the labels {', '.join(names)}: it is NaN "
            f"throughout. Leave this image out, or choose other channels (`target_channels`)."
        )
    images = images | {"target": replace(target, channel_names=names)}
    return {role: x.select_channels(kept) if role in COMPARED else x for role, x in images.items()}


def _channel_names(image):
    count = image.sizes.get("C", 1)
    names = list(image.names)
    return names if len(set(names)) == count else [f"channel {i}" for i in range(count)]


def _make_unique(name, names):
    """Return `name` as a file name, with a number if it is in `names`, and add it there."""
    name = name.replace("/", "_").replace("\\", "_")
    candidates = [name, *(f"{name}_{i}" for i in range(2, len(names) + 3))]
    unique = next(candidate for candidate in candidates if candidate not in names)
    names.add(unique)
    return unique
