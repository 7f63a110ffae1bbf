"""Score predictions against targets, image by image, with tests and figures."""

import contextlib
from collections.abc import Sequence
from pathlib import Path

from gvtnets_tf.atomic_files import atomic_write, check_writable
from gvtnets_tf.evaluation import metrics, plots
from gvtnets_tf.evaluation.comparisons import Comparisons
from gvtnets_tf.evaluation.report import Report, call_channel, summarize_channels
from gvtnets_tf.evaluation.virtual_staining.scores import score_pixels

# Headings of the figures, in the order of the columns.
HEADINGS = {"input": "input", "target": "truth", "prediction": "prediction", "baseline": "baseline"}


def evaluate(
    predictions: str | Path | Sequence, targets: str | Path | Sequence,
    out: str | Path | None = None, baseline: str | Path | Sequence | None = None, *,
    axes: str | None = None, target_channels: list | None = None, regions: dict | None = None,
    inputs: str | Path | Sequence | None = None, staining: bool | dict | None = False,
    force: bool = False,
) -> Report:  # fmt: skip
    """Score predictions against targets and, where given, against a baseline.

    Axes are matched by their letters; an axis of length one may be missing. Each channel is scored
    by itself, over all frames, planes and pixels together. A channel of a target that is NaN
    throughout is a label that was not imaged: it is left out.

    Args:
        predictions: quoted glob or list of paths, paired with `targets` by name (see
            `data.pairing`); or list of `Image` or arrays, paired by order.
        targets: likewise, the truth. Or a folder of the in-silico labeling data set, whose
            wells pair with predictions `<name of the well>.tif`; wells without are left out.
        out: folder for `metrics.csv`, `summary.json`, `box.png` and one figure per image; it
            appears whole or not at all.
        baseline: like `predictions`, from the method to compare with, or `None`.
        axes: str. One letter of `TCZYX` per axis of plain arrays (`"YX"` or `"ZYX"` by default),
            or in place of what files say.
        target_channels: list of int or str. Channels of targets, and of a baseline with more,
            that those of the predictions are. `None`: by name if the target has all, else in order.
        regions: mapping from axis letter to `(start, stop)` in voxels: only this is scored.
        inputs: like `predictions` or `targets`, the inputs of the network; only shown.
        staining: bool, or mapping of arguments of `virtual_staining.scores.score_pixels`.
            If not `False`, the pixels of each label over all images are scored as well.
        force: bool. If `True`, an `out` of this package is replaced; else `FileExistsError`.

    Raises:
        ValueError: naming the image, if files have no partner, shapes differ, values are not
            finite, a target is constant or has no label, or a normalized file does not say how.

    Examples:
        >>> import numpy as np
        >>> report = evaluate([np.eye(8) + 2], [np.eye(8)])
        >>> report.overall["channel 0"]["scores"]["mae"]["mean"]
        2.0
    """
    from tqdm import tqdm

    comparisons = Comparisons(
        targets, predictions, baseline, inputs, axes, target_channels, regions
    )
    rows, pixel_scores = [], None
    with _open_out(out, force, predictions, targets, baseline, inputs) as folder:
        if folder:
            folder.mkdir()
        for comparison in tqdm(comparisons, desc="evaluate", disable=None):
            rows += _score(comparison)
            if folder:
                _plot(folder / f"{comparison.name}.png", comparison)
        if staining not in (None, False):
            pixel_scores = score_pixels(comparisons, **({} if staining is True else staining))
        report = Report(rows, summarize_channels(rows), dict(regions or {}), pixel_scores)
        if folder:
            report.write(folder)
    return report


def _open_out(out, force, *specs):
    """Return the context of a folder to write, which is none of the files that are read."""
    if out is None:
        return contextlib.nullcontext()
    entries = [e for s in specs for e in (s if isinstance(s, list | tuple) else [s])]
    check_writable(out, force, [e for e in entries if isinstance(e, str | Path)])
    return atomic_write(out, force)


def _score(comparison):
    """Return one row per channel."""
    rows = []
    for channel, images in comparison.channels():
        row = {"name": comparison.name, "channel": channel}
        true = images.pop("target")
        for role, image in images.items():
            try:
                scores = metrics.all_metrics(true, image)
            except ValueError as error:
                where = f"{comparison.name}, {call_channel(channel)}, {role}"
                raise ValueError(f"{where}: {error}") from error
            prefix = "" if role == "prediction" else f"{role}_"
            row |= {prefix + score: value for score, value in scores.items()}
        rows.append(row)
    return rows


def _plot(path, comparison):
    shown, target = comparison.images, comparison.images["target"]
    images = {label: shown[role] for role, label in HEADINGS.items() if role in shown}
    has_names = target.sizes.get("C", 1) > 1 or target.channel_names
    plots.comparison(
        path,
        {label: image.numpy() for label, image in images.items()},
        axes={label: image.axes for label, image in images.items()},
        channel_names=comparison.channel_names if has_names else (),
        title=path.stem,
    )
