"""Predictions against targets, image by image: scores, tests, figures."""

import contextlib
from dataclasses import replace
from pathlib import Path

import numpy as np

from gvtnets_tf import metrics, plots
from gvtnets_tf.axes import ORDER
from gvtnets_tf.data.image import Image
from gvtnets_tf.files import staged
from gvtnets_tf.report import Report, overall


def evaluate(
    predictions,
    targets,
    out=None,
    baseline=None,
    *,
    axes=None,
    target_channels=None,
    regions=None,
    inputs=None,
    force=False,
):
    """Score predictions against targets and, where given, against a baseline.

    Images are read one at a time. Axes are matched by their letters, an axis of
    length one may be missing, and each channel is scored by itself, over all frames,
    planes and pixels together.

    Args:
        predictions: quoted glob or list of paths, paired with `targets` by name (see
            `data.pairs.match`); or list of `Image` or arrays, paired by order.
        targets: likewise, the truth.
        out: folder to write `metrics.csv`, `summary.json`, `box.png` and one figure per
            image into, or `None` for none of them. It appears whole or not at all.
        baseline: like `predictions`, from the method to compare with, or `None`.
        axes: str. One letter of `TCZYX` per axis, in place of what files say, and of plain
            arrays; arrays of two and three axes are `"YX"` and `"ZYX"` by default.
        target_channels: list of int or str. Which channels of the targets the
            channels of the predictions are, in their order; `None` takes all.
        regions: mapping from axis letter to `(start, stop)` in voxels. Only this part
            is scored and shown.
        inputs: like `predictions`, the images that were predicted from; only shown.
        force: bool. Whether an existing `out` may be replaced.

    Returns:
        `Report`; `print` shows it as a table.

    Raises:
        ValueError: naming the image, if files have no partner, shapes differ, there is
            NaN or infinity, or a target is constant.
        FileExistsError: if `out` exists and `force` is `False`.
    """
    from tqdm import tqdm

    others = {"prediction": predictions, "baseline": baseline, "input": inputs}
    cases = _cases(targets, {role: x for role, x in others.items() if x is not None})
    rows, names = [], {"box"}
    with contextlib.nullcontext() if out is None else staged(out, force) as folder:
        if folder:
            folder.mkdir()
        for index, case in enumerate(tqdm(cases, desc="evaluate", disable=None)):
            images = {role: _load(x, axes, f"{index:03d}") for role, x in case.items()}
            images = _cut(images, case, target_channels, regions or {})
            name = _unique(images["target"].name, names)
            rows += _score(name, images)
            if folder:
                _show(folder / f"{name}.png", images)
        report = Report(rows, overall(rows), dict(regions or {}))
        if folder:
            report.write(folder)
    return report


def _cases(targets, others):
    """Return, per image, a mapping from role to a path, an `Image` or an array."""
    given = {"target": targets, **others}
    kinds = {role: _are_files(role, x) for role, x in given.items()}
    if len(set(kinds.values())) > 1:
        raise ValueError(
            f"Give all images as files, or all as images in memory. Received files for "
            f"{', '.join(role for role, files in kinds.items() if files)} only."
        )
    if kinds["target"]:
        return _match(targets, others)
    given = {role: [x] if _is_image(x) else list(x) for role, x in given.items()}
    counts = {role: len(x) for role, x in given.items()}
    if len(set(counts.values())) > 1:
        found = ", ".join(f"{role} {count}" for role, count in counts.items())
        raise ValueError(f"Images in memory pair by order: counts must agree. Received: {found}.")
    return [dict(zip(given, images)) for images in zip(*given.values())]


def _match(targets, others):
    from gvtnets_tf.data.pairs import match

    cases = {}
    for role, sources in others.items():
        for source, target in match(sources, targets):
            cases.setdefault(target, {"target": target})[role] = source
    return list(cases.values())


def _is_image(x):
    return isinstance(x, (Image, np.ndarray))


def _are_files(role, x):
    if isinstance(x, (str, Path)):
        return True
    if not _is_image(x) and not len(x):
        raise ValueError(f"There is nothing to evaluate: the list of {role} images is empty.")
    return not _is_image(x) and all(isinstance(item, (str, Path)) for item in x)


def _load(source, axes, name):
    if isinstance(source, Image):
        return replace(source, name=source.name or name)
    if isinstance(source, (str, Path)):
        from gvtnets_tf.data.readers import read

        return read(source, axes)
    array = np.asarray(source)
    if axes is None and array.ndim not in (2, 3):
        raise ValueError(
            f"`axes` must name the axes of image {name}. Received: an array of shape {array.shape}."
        )
    return Image(array, axes or "ZYX"[-array.ndim :], name=name)


def _cut(images, case, target_channels, regions):
    """Check that all show the same voxels, and keep what is to be scored."""
    target = images["target"]
    wanted = _extent(target)
    if target_channels is not None:
        wanted["C"] = len(target_channels)
    for role in [role for role in ("prediction", "baseline") if role in images]:
        if _extent(images[role]) != wanted:
            names = {r: case[r] if _are_files(r, case[r]) else images[r].name for r in case}
            chosen = "" if target_channels is None else f", channels {target_channels} of it"
            raise ValueError(
                f"The {role} {names[role]} and the target {names['target']} do not show the same "
                f"voxels. Received: shape {images[role].shape} (axes {images[role].axes}) against "
                f"{target.shape} (axes {target.axes}{chosen}). See `axes` and `target_channels`."
            )
    # The input is only shown: it may lack an axis, as the input of a projection has one more.
    cut = {
        role: image.crop({k: v for k, v in regions.items() if role != "input" or k in image.axes})
        for role, image in images.items()
    }
    return cut | {"target": cut["target"].select_channels(target_channels)}


def _extent(image):
    return {letter: image.sizes.get(letter, 1) for letter in ORDER}


def _unique(name, names):
    """Return `name`, numbered if it was there before, as a file name."""
    name = name.replace("/", "_").replace("\\", "_")
    tries = [name, *(f"{name}_{i}" for i in range(2, len(names) + 3))]
    found = next(candidate for candidate in tries if candidate not in names)
    names.add(found)
    return found


def _channels(image):
    count = image.sizes.get("C", 1)
    names = list(image.channel_names)
    return names if len(set(names)) == len(names) == count else [str(i) for i in range(count)]


def _score(name, images):
    """Return one row per channel."""
    order = "C" + images["target"].axes.replace("C", "")
    stacks = {role: image.numpy(order) for role, image in images.items() if role != "input"}
    rows = []
    for index, channel in enumerate(_channels(images["target"])):
        row = {"name": name, "channel": channel}
        for role, prefix in {"prediction": "", "baseline": "baseline_"}.items():
            if role not in stacks:
                continue
            try:
                scores = metrics.all_metrics(stacks["target"][index], stacks[role][index])
            except ValueError as error:
                raise ValueError(f"{name}, channel {channel}, {role}: {error}") from error
            row |= {prefix + score: value for score, value in scores.items()}
        rows.append(row)
    return rows


def _show(path, images):
    roles = {
        "input": "input",
        "target": "truth",
        "prediction": "prediction",
        "baseline": "baseline",
    }
    shown = {label: images[role] for role, label in roles.items() if role in images}
    target = images["target"]
    named = target.sizes.get("C", 1) > 1 or target.channel_names
    plots.comparison(
        path,
        {label: image.numpy() for label, image in shown.items()},
        axes={label: image.axes for label, image in shown.items()},
        channel_names=_channels(target) if named else (),
        title=path.stem,
    )
