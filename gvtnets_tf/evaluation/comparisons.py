"""Which images are compared: paired, read when it is their turn, cut to the same voxels."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from gvtnets_tf.data.in_silico_labeling.file_names import LABELS, NEURITE, is_dataset
from gvtnets_tf.data.in_silico_labeling.wells import Well, find_wells
from gvtnets_tf.data.pairing import match_pairs
from gvtnets_tf.data.sources import find
from gvtnets_tf.images.axes import ORDER
from gvtnets_tf.images.image import Image
from gvtnets_tf.images.metadata import file_stem, log_once

COMPARED = ("target", "prediction", "baseline")


@dataclass(frozen=True)
class Case:
    """One image with all that is compared with it.

    Attributes:
        name: str. File name without suffixes, different for every case of a list.
        images: mapping from role to `Image`: `"target"`, `"prediction"` and, where given,
            `"baseline"` show the same voxels and channels; `"input"` is only shown.
    """

    name: str
    images: Mapping

    @property
    def axes(self):
        """Axes of what `channels` gives."""
        return self.images["target"].axes.replace("C", "")

    @property
    def channel_names(self):
        """Names of the channels that are compared; their numbers where they have none."""
        return _names(self.images["target"])

    def channels(self, *roles):
        """List the channels.

        Args:
            roles: which images to read; those to compare by default.

        Returns:
            List of pairs: the name of the channel, and a mapping from role to an array
            with the axes `axes`.
        """
        roles = [role for role in roles or COMPARED if role in self.images]
        stacks = {role: self.images[role].numpy("C" + self.axes) for role in roles}
        return [
            (name, {role: stack[index] for role, stack in stacks.items()})
            for index, name in enumerate(self.channel_names)
        ]


class Cases:
    """The images of an evaluation, read one at a time, as often as they are gone through.

    Args:
        targets, predictions, baseline, inputs, axes, target_channels, regions: as in
            `evaluation.evaluate`.

    Raises:
        ValueError: if images do not pair up; when gone through, naming the image, if it
            does not fit its target or if its target has none of the labels.
    """

    def __init__(
        self,
        targets,
        predictions,
        baseline=None,
        inputs=None,
        *,
        axes=None,
        target_channels=None,
        regions=None,
    ):
        given = {"prediction": predictions, "baseline": baseline, "input": inputs}
        self.sources = _pair(targets, {role: x for role, x in given.items() if x is not None})
        self.axes, self.target_channels, self.regions = axes, target_channels, regions or {}

    def __len__(self):
        return len(self.sources)

    def __iter__(self):
        names = {"box"}
        for index, sources in enumerate(self.sources):
            images = self._read(sources, f"{index:03d}")
            yield Case(_unique(images["target"].name, names), images)

    def _read(self, sources, name):
        """Read the images of a case, and keep what is to be compared."""
        others = {role: x for role, x in sources.items() if role != "target"}
        images = {role: _load(x, self.axes, name) for role, x in others.items()}
        labels = self.target_channels or images["prediction"].channel_names
        images["target"] = _load(sources["target"], self.axes, name, labels)
        images = _chosen(images, self.target_channels)
        _check_alike(images, sources)
        # The input is only shown: it may lack an axis, as that of a projection has one more.
        cut = {
            role: x.crop({k: v for k, v in self.regions.items() if role != "input" or k in x.axes})
            for role, x in images.items()
        }
        return _taken(cut)


def _pair(targets, others):
    """Return, per image, a mapping from role to a path, a well, an `Image` or an array."""
    given = {"target": targets, **others}
    kinds = {role: _are_files(role, x) for role, x in given.items()}
    if len(set(kinds.values())) > 1:
        raise ValueError(
            f"Give all images as files, or all as images in memory. Received files for "
            f"{', '.join(role for role, files in kinds.items() if files)} only."
        )
    if kinds["target"]:
        return _match_wells(targets, others) if _is_dataset(targets) else _match(targets, others)
    given = {role: [x] if _is_image(x) else list(x) for role, x in given.items()}
    counts = {role: len(x) for role, x in given.items()}
    if len(set(counts.values())) > 1:
        found = ", ".join(f"{role} {count}" for role, count in counts.items())
        raise ValueError(f"Images in memory pair by order: counts must agree. Received: {found}.")
    return [dict(zip(given, images)) for images in zip(*given.values())]


def _match(targets, others):
    cases = {}
    for role, sources in others.items():
        for source, target in match_pairs(sources, targets):
            cases.setdefault(target, {"target": target})[role] = source
    return list(cases.values())


def _match_wells(folder, others):
    """Pair files with the wells whose names they have; wells without any are left out."""
    wells = {well.name: well for well in find_wells(folder)}
    found = {role: wells if _is_dataset(x) else _by_stem(x) for role, x in others.items()}
    predicted = found["prediction"]
    for role, files in found.items():
        whole = wells if role == "prediction" else files
        if alone := [str(x) for name, x in predicted.items() if name not in whole]:
            where = f"well in {folder}" if role == "prediction" else role
            raise ValueError(
                f"No {where} for {', '.join(alone)}. Predictions bear the names of the wells, "
                f"such as {next(iter(wells))}.tif."
            )
    if len(predicted) < len(wells):
        log_once(
            f"{folder}: {len(predicted)} of {len(wells)} wells have a prediction and are scored."
        )
    return [
        {"target": wells[name], **{role: files[name] for role, files in found.items()}}
        for name in predicted
    ]


def _by_stem(spec):
    files = [source.path for source in find(spec)]
    names = {file_stem(path): path for path in files}
    if twins := [str(path) for path in files if path not in names.values()]:
        raise ValueError(f"More than one file bears the name of {', '.join(twins)}: remove one.")
    return names


def _is_dataset(spec):
    return isinstance(spec, (str, Path)) and is_dataset(spec)


def _is_image(x):
    return isinstance(x, (Image, np.ndarray))


def _are_files(role, x):
    if isinstance(x, (str, Path)):
        return True
    if not _is_image(x) and not len(x):
        raise ValueError(f"There is nothing to evaluate: the list of {role} images is empty.")
    return not _is_image(x) and all(isinstance(item, (str, Path)) for item in x)


def _load(source, axes, name, labels=None):
    """Open an image; of a well the planes or, where `labels` is given, the labels."""
    if isinstance(source, Well):
        known = {*LABELS, NEURITE}
        if labels is None:
            return source.input()
        return source.target(labels) if labels and known.issuperset(labels) else source.target()
    if isinstance(source, Image):
        return replace(source, name=source.name or name)
    if isinstance(source, (str, Path)):
        from gvtnets_tf.images.readers import read

        return read(source, axes)
    array = np.asarray(source)
    if axes is None and array.ndim not in (2, 3):
        raise ValueError(
            f"`axes` must name the axes of image {name}. Received: an array of shape {array.shape}."
        )
    return Image(array, axes or "ZYX"[-array.ndim :], name=name)


def _chosen(images, channels):
    """Take the channels of the target, by name where the prediction has names it knows."""
    target, names = images["target"], images["prediction"].channel_names
    if channels is not None:
        return images | {"target": target.select_channels(channels)}
    if not names or len(set(names)) < len(names):
        return images
    # A baseline may show other labels besides, and in another order.
    return {
        role: x.select_channels(names)
        if role in COMPARED and set(names) <= set(x.channel_names) and target.channel_names
        else x
        for role, x in images.items()
    }


def _check_alike(images, sources):
    target = images["target"]
    for role in [role for role in COMPARED if role in images]:
        if _extent(images[role]) != _extent(target):
            called = {
                r: x if isinstance(x, (str, Path)) else images[r].name for r, x in sources.items()
            }
            raise ValueError(
                f"The {role} {called[role]} and the target {called['target']} do not show the same "
                f"voxels. Received: shape {_told(images[role])} against {_told(target)}. See "
                f"`axes` and `target_channels`."
            )


def _extent(image):
    return {letter: image.sizes.get(letter, 1) for letter in ORDER}


def _told(image):
    names = f", channels {', '.join(image.channel_names)}" if image.channel_names else ""
    return f"{image.shape} (axes {image.axes}{names})"


def _taken(images):
    """Leave out the labels that were not taken: those of which the target is NaN throughout."""
    target = images["target"]
    if target.array.dtype.kind != "f":
        return images
    target = replace(target, array=target.numpy())  # read once, here
    stack = target.numpy("C" + target.axes.replace("C", ""))
    taken = [i for i, channel in enumerate(stack) if not np.isnan(channel).all()]
    if len(taken) == len(stack):
        return images | {"target": target}
    if not taken:
        raise ValueError(
            f"{target.name} has none of the labels {', '.join(_names(target))}: it is NaN "
            f"throughout. Leave this image out, or choose other channels (`target_channels`)."
        )
    named = images | {"target": replace(target, channel_names=tuple(_names(target)))}
    return {role: x.select_channels(taken) if role in COMPARED else x for role, x in named.items()}


def _names(image):
    count = image.sizes.get("C", 1)
    names = list(image.channel_names)
    return names if len(set(names)) == len(names) == count else [str(i) for i in range(count)]


def _unique(name, names):
    """Return `name`, numbered if it was there before, as a file name."""
    name = name.replace("/", "_").replace("\\", "_")
    tries = [name, *(f"{name}_{i}" for i in range(2, len(names) + 3))]
    found = next(candidate for candidate in tries if candidate not in names)
    names.add(found)
    return found
