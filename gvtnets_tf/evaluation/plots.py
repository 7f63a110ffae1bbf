"""Figures: images side by side, scores as boxes, training curves.

Every function writes one file, whose suffix chooses the format (`.png`, `.pdf`,
`.svg`), and leaves matplotlib's global state and its current backend alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gvtnets_tf.atomic_files import atomic_write
from gvtnets_tf.checks import check_choice
from gvtnets_tf.evaluation import metrics
from gvtnets_tf.images.axes import check_axes, rearrange

GRAY = (0.5, 99.8)  # percentiles shown as black and white
DIFFERENCE = 99.8  # percentile of |difference| at the ends of its colors
WIDTH, DPI = 2.6, 150  # inches per column; dots per inch
COLORS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377")


def comparison(path, images, *, axes=None, channel_names=(), show="slice", title="", force=False):
    """Show input, truth, predictions and their differences, a row per channel.

    Truth and predictions share the gray scale of the truth (percentiles 0.5 and
    99.8 of what is shown), the input has its own. Differences are prediction minus
    truth, blue below and red above, with the same limits for all predictions of a
    row. The correlation in a heading is that of the whole image, not of the slice.

    Args:
        path: the figure to write.
        images: mapping from name to array. `"input"` and `"truth"` may be among them,
            every other name is a prediction. Truth and predictions have one shape.
        axes: str, or mapping from name to str, letters of `TCZYX`. `None` reads
            arrays of two and three axes as `"YX"` and `"ZYX"`.
        channel_names: sequence of str, one per channel of the truth.
        show: `"slice"` for the central plane along Z, `"max"` for the maximum over
            Z. Of a time series, the central frame is shown.
        title: str. A line above the figure.
        force: bool. Whether an existing figure may be replaced.

    Raises:
        ValueError: if shapes differ, axes do not fit, or `show` is unknown.
        FileExistsError: if `path` exists and `force` is `False`.
    """
    check_choice("show", show, ["slice", "max"])
    stacks = {name: _stack(name, image, axes) for name, image in images.items()}
    count = _check_alike(stacks, channel_names)
    rows = [_row(stacks, index, count, show) for index in range(count)]
    height, width = list(stacks.values())[-1].shape[-2:]
    ratio = min(max(height / width, 0.4), 2.5)
    figure = canvas((WIDTH * len(rows[0]) + 0.8, (WIDTH * ratio + 0.2) * count + 0.2))
    grid = figure.subplots(count, len(rows[0]), squeeze=False)
    for index, (row, places) in enumerate(zip(rows, grid)):
        for place, panel in zip(places, row):
            _draw(figure, place, panel)
        if channel_names:
            name = channel_names[index]
            places[0].text(
                -0.06,
                0.5,
                name,
                rotation=90,
                ha="right",
                va="center",
                transform=places[0].transAxes,
                fontsize=11,
            )
    if title:
        figure.suptitle(title, fontsize=11)
    save(figure, path, force)


def box(path, table, *, label="r", force=False):
    """Draw the scores of each group: quartiles as a box, whiskers to the extremes, all points.

    Args:
        path: the figure to write.
        table: mapping from group to a sequence of float; or to a mapping from series
            to such a sequence, and the series of a group stand side by side. `nan`
            and infinite scores are left out.
        label: str. What is shown, at the vertical axis.
        force: bool. Whether an existing figure may be replaced.

    Raises:
        ValueError: if `table` is empty.
        FileExistsError: if `path` exists and `force` is `False`.
    """
    if not table:
        raise ValueError("`table` must hold at least one group of scores. Received: none.")
    table = {g: v if isinstance(v, Mapping) else {"": v} for g, v in table.items()}
    series = list(dict.fromkeys(name for group in table.values() for name in group))
    room = len(table) * max(1, 0.7 * len(series))
    crowded = sum(len(str(group)) for group in table) > 10 * room
    figure = canvas((max(2.8, 1.0 + 0.7 * room), 4.2 if crowded else 3.4))
    place = figure.subplots()
    for index, name in enumerate(series):
        offset = (index - (len(series) - 1) / 2) * 0.8 / len(series)
        groups = [(x + offset, g[name]) for x, g in enumerate(table.values()) if name in g]
        _boxes(place, groups, 0.6 / len(series), COLORS[index % len(COLORS)], name)
    slanted = {"rotation": 35, "ha": "right", "rotation_mode": "anchor"} if crowded else {}
    place.set_xticks(range(len(table)), list(table), **slanted)
    place.set_xlim(-0.6, len(table) - 0.4)
    place.set_ylabel(label)
    if series != [""]:
        figure.legend(loc="outside upper center", ncols=min(3, len(series)), frameon=False)
    save(figure, path, force)


def curves(path, history, *, force=False):
    """Draw training curves, `loss` and `val_loss` in one panel, one panel per quantity.

    Args:
        path: the figure to write.
        history: mapping from column to a sequence of numbers, one per epoch, as in
            Keras' `History.history`. `epoch`, if it is there, is the horizontal axis.
            `None` and `nan` leave a gap. A scale is logarithmic if its values are
            positive and span more than a factor of ten.
        force: bool. Whether an existing figure may be replaced.

    Raises:
        ValueError: if there is nothing to draw.
        FileExistsError: if `path` exists and `force` is `False`.
    """
    columns = {name: np.asarray(values, np.float64) for name, values in history.items()}
    epochs = columns.pop("epoch", None)
    panels = list(dict.fromkeys(name.removeprefix("val_") for name in columns))
    if not panels:
        raise ValueError("`history` must hold at least one column besides `epoch`. Received: none.")
    figure = canvas((3.4 * len(panels), 2.8))
    for place, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels):
        pair = {"training": panel, "validation": f"val_{panel}"}
        drawn = {label: columns[name] for label, name in pair.items() if name in columns}
        for color, (label, values) in zip(COLORS, drawn.items()):
            x = np.arange(1, len(values) + 1) if epochs is None else epochs
            marker = "o" if len(values) < 30 else None
            place.plot(x, values, color=color, label=label, marker=marker, markersize=3)
        _scale(place, np.concatenate(list(drawn.values())))
        place.set(xlabel="epoch", title=panel.replace("_", " "))
        place.xaxis.get_major_locator().set_params(integer=True)
        if f"val_{panel}" in columns:
            place.legend(frameon=False)
    save(figure, path, force)


@dataclass(frozen=True)
class _Panel:
    plane: np.ndarray | None  # nothing is drawn for `None`
    heading: str = ""
    limits: tuple = (0, 1)
    colors: str = "gray"
    bar: bool = False


def _stack(name, image, axes):
    """Return `image` in the order `(channel, frame, z, y, x)`."""
    image = np.asarray(image)
    letters = axes.get(name) if isinstance(axes, Mapping) else axes
    if letters is None and image.ndim not in (2, 3):
        raise ValueError(
            f"`axes` must name the axes of {name!r}. Received: an array of shape {image.shape}."
        )
    return rearrange(image, check_axes(letters or "ZYX"[-image.ndim :], image.ndim), "CTZYX")


def _check_alike(stacks, channel_names):
    """Return the number of channels that truth and predictions share."""
    if not stacks:
        raise ValueError("`images` must hold at least one image. Received: none.")
    shapes = {name: x.shape for name, x in stacks.items() if name != "input"}
    if len(set(shapes.values())) > 1:
        found = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(f"Truth and predictions must have one shape. Received (CTZYX): {found}.")
    count = next(iter(shapes.values()), next(iter(stacks.values())).shape)[0]
    if len(channel_names) not in (0, count):
        raise ValueError(
            f"`channel_names` must name each of the {count} channels. Received: {channel_names}."
        )
    return count


def _row(stacks, index, count, show):
    """Return the panels of one channel: input, truth, then each prediction and its difference."""
    row = [_input(stacks["input"], index, count, show)] if "input" in stacks else []
    truth = stacks.get("truth")
    predictions = {n: x[index] for n, x in stacks.items() if n not in ("input", "truth")}
    if truth is None:
        planes = {name: _plane(x, show) for name, x in predictions.items()}
        return row + [_Panel(p, n, _range(p), bar=True) for n, p in planes.items()]
    true = _plane(truth[index], show)
    gray = _range(true)
    row.append(_Panel(true, "truth", gray, bar=True))
    errors = {n: _plane(x, show).astype(np.float64) - true for n, x in predictions.items()}
    top = max((np.percentile(np.abs(e), DIFFERENCE) for e in errors.values()), default=0) or 1.0
    for name, x in predictions.items():
        heading = f"{name}, r = {metrics.r(truth[index], x):.3f}"
        row.append(_Panel(_plane(x, show), heading, gray))
        row.append(_Panel(errors[name], f"{name} - truth", (-top, top), "RdBu_r", bar=True))
    return row


def _input(stack, index, count, show):
    # An input with other channels than the truth is shown once, by its first channel.
    alike = len(stack) == count
    if not alike and index:
        return _Panel(None)
    heading = "input" if alike or len(stack) == 1 else f"input, channel 0 of {len(stack)}"
    plane = _plane(stack[index if alike else 0], show)
    return _Panel(plane, heading, _range(plane))


def _plane(stack, show):
    """Reduce `(frame, z, y, x)` to `(y, x)`."""
    frame = stack[len(stack) // 2]
    return frame.max(0) if show == "max" else frame[len(frame) // 2]


def _range(plane):
    low, high = np.percentile(plane, GRAY)
    # So few bright voxels that the percentiles miss them: show them nevertheless.
    return (low, high) if high > low else (plane.min(), max(plane.max(), plane.min() + 1e-6))


def _draw(figure, place, panel):
    place.set_axis_off()
    if panel.plane is None:
        return
    low, high = panel.limits
    drawn = place.imshow(panel.plane, cmap=panel.colors, vmin=low, vmax=high)
    place.set_title(panel.heading, fontsize=9)
    if panel.bar:
        bar = figure.colorbar(drawn, cax=place.inset_axes([1.03, 0, 0.04, 1]))
        bar.ax.tick_params(labelsize=7)
        bar.outline.set_linewidth(0.4)


def _boxes(place, groups, width, color, label):
    # Not `Axes.boxplot`, which loads pyplot and with it chooses a backend for everyone.
    for x, values in groups:
        v = np.asarray(values, np.float64)
        v = v[np.isfinite(v)]
        # Evenly spread in order of appearance: the same figure every time.
        spread = (np.arange(len(v)) % 5 - 2) * width / 8
        place.plot(x + spread, v, "o", color=color, markersize=3.5, alpha=0.8, label=label or None)
        label = None  # one entry per series in the legend
        if not len(v):
            continue
        low, q1, median, q3, high = np.percentile(v, (0, 25, 50, 75, 100))
        left, right = x - width / 2, x + width / 2
        place.fill_between([left, right], q1, q3, facecolor=color, edgecolor=color, alpha=0.35)
        place.hlines(median, left, right, color=color, linewidth=1.8)
        place.hlines([low, high], x - width / 4, x + width / 4, color=color, linewidth=1)
        place.vlines([x, x], [low, q3], [q1, high], color=color, linewidth=1)


def _scale(place, values):
    values = values[np.isfinite(values)]
    if len(values) and values.min() > 0 and values.max() > 10 * values.min():
        place.set_yscale("log")


def canvas(size):
    """An empty figure of `size` inches, without the pyplot that would choose a backend."""
    from matplotlib.figure import Figure

    return Figure(figsize=size, dpi=DPI, layout="constrained")


def save(figure, path, force):
    """Write a figure, whole or not at all."""
    with atomic_write(path, force) as beside:
        figure.savefig(beside, bbox_inches="tight")
