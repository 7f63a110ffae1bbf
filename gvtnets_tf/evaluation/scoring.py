"""Predictions against targets, image by image: scores, tests, figures."""

import contextlib

from gvtnets_tf.atomic_files import atomic_write
from gvtnets_tf.evaluation import metrics, plots
from gvtnets_tf.evaluation.comparisons import Cases
from gvtnets_tf.evaluation.report import Report, overall
from gvtnets_tf.evaluation.virtual_staining.scores import measure


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
    staining=False,
    force=False,
):
    """Score predictions against targets and, where given, against a baseline.

    Images are read one at a time. Axes are matched by their letters, an axis of
    length one may be missing, and each channel is scored by itself, over all frames,
    planes and pixels together. A channel of a target that is NaN throughout is a label that
    was not taken: it is left out.

    Args:
        predictions: quoted glob or list of paths, paired with `targets` by name (see
            `match_pairs`); or list of `Image` or arrays, paired by order.
        targets: likewise, the truth. Or a folder of the in-silico labeling data set, whose
            wells pair with predictions `<name of the well>.tif`; standard error tells how
            many wells have none and are left out.
        out: folder to write `metrics.csv`, `summary.json`, `box.png` and one figure per
            image into, or `None` for none of them. It appears whole or not at all.
        baseline: like `predictions`, from the method to compare with, or `None`.
        axes: str. One letter of `TCZYX` per axis, in place of what files say, and of plain
            arrays; arrays of two and three axes are `"YX"` and `"ZYX"` by default.
        target_channels: list of int or str. Which channels of the targets the
            channels of the predictions are, in their order. `None` takes those of the
            prediction's channel names if the target has them all, else all in order.
        regions: mapping from axis letter to `(start, stop)` in voxels. Only this part
            is scored and shown.
        inputs: like `predictions` or `targets`, what was predicted from; only shown.
        staining: bool, or mapping of arguments of `staining.measure`. Whether to score the
            images of each label together as well, as the paper of virtual staining does.
            They are then read three times more; its tables and figures go into `out`.
        force: bool. Whether an existing `out` may be replaced.

    Returns:
        `Report`; `print` shows it as a table.

    Raises:
        ValueError: naming the image, if files have no partner, shapes differ, there is
            NaN or infinity (apart from labels that were not taken, unless that is all of
            them), or a target is constant.
        FileExistsError: if `out` exists and `force` is `False`.
    """
    from tqdm import tqdm

    cases = Cases(
        targets, predictions, baseline, inputs,
        axes=axes, target_channels=target_channels, regions=regions,
    )  # fmt: skip
    rows, stained = [], None
    with contextlib.nullcontext() if out is None else atomic_write(out, force) as folder:
        if folder:
            folder.mkdir()
        for case in tqdm(cases, desc="evaluate", disable=None):
            rows += _score(case)
            if folder:
                _show(folder / f"{case.name}.png", case)
        if staining not in (None, False):
            stained = measure(cases, **({} if staining is True else staining))
        report = Report(rows, overall(rows), dict(regions or {}), stained)
        if folder:
            report.write(folder)
    return report


def _score(case):
    """Return one row per channel."""
    rows = []
    for channel, images in case.channels():
        row = {"name": case.name, "channel": channel}
        true = images.pop("target")
        for role, image in images.items():
            try:
                scores = metrics.all_metrics(true, image)
            except ValueError as error:
                raise ValueError(f"{case.name}, channel {channel}, {role}: {error}") from error
            prefix = "" if role == "prediction" else f"{role}_"
            row |= {prefix + score: value for score, value in scores.items()}
        rows.append(row)
    return rows


def _show(path, case):
    roles = {
        "input": "input",
        "target": "truth",
        "prediction": "prediction",
        "baseline": "baseline",
    }
    shown = {label: case.images[role] for role, label in roles.items() if role in case.images}
    target = case.images["target"]
    named = target.sizes.get("C", 1) > 1 or target.channel_names
    plots.comparison(
        path,
        {label: image.numpy() for label, image in shown.items()},
        axes={label: image.axes for label, image in shown.items()},
        channel_names=case.channel_names if named else (),
        title=path.stem,
    )
