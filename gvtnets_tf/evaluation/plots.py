"""Figures: images side by side, scores as boxes, training curves.

Every function writes one file, `path`, whose suffix chooses the format (`.png`, `.pdf`,
`.svg`), and leaves matplotlib's global state and its current backend alone. A file that is
there raises `FileExistsError`, or is replaced with `force=True` if this package wrote it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gvtnets_tf.atomic_files import MARK, atomic_write
from gvtnets_tf.checks import check_choice
from gvtnets_tf.evaluation import metrics
from gvtnets_tf.images.axes import check_axes, rearrange
from gvtnets_tf.images.display import contrast_limits

__all__ = ["box", "comparison", "curves", "dots"]

DIFFERENCE = 99.8  # percentile of |difference| at the ends of its colors
WIDTH, DPI = 2.6, 150  # inches per column; dots per inch
COLORS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377")


def comparison(
    path: str | Path, images: Mapping[str, np.ndarray], *,
    axes: str | Mapping[str, str] | None = None, channel_names: Sequence[str] = (),
    show: str = "slice", title: str = "", force: bool = False,
) -> None:  # fmt: skip
    """Show input, truth, predictions and their differences, a row per channel.

    Truth and predictions share the gray scale of the truth (percentiles 0.5 and 99.8 of what is
    shown), the input has its own. Differences are prediction minus truth, blue below and red
    above, with the same limits for all predictions of a row. The correlation in a heading is
    that of the whole image, not of the slice.

    Args:
        images: mapping from name to array. `"input"` and `"truth"` may be among them, every
            other name is a prediction. Truth and predictions have one shape.
        axes: str, or mapping from name to str, letters of `TCZYX`; by default `"YX"` or `"ZYX"`.
        channel_names: sequence of str, one per channel of the truth.
        show: `"slice"` for the central plane along Z, `"max"` for the maximum over Z. Of a time
            series, the central frame is shown.
        title: str. A line above the figure.

    Raises:
        ValueError: if shapes differ, axes do not fit, or `show` is unknown.

    Examples:
        >>> import tempfile
        >>> truth = np.random.default_rng(0).random((3, 8, 8))
        >>> images = {"truth": truth, "prediction": truth**2}
        >>> comparison(Path(tempfile.mkdtemp()) / "cell.png", images, axes="ZYX")
    """
    check_choice("show", show, ["slice", "max"])
    stacks = {name: _to_stack(name, image, axes) for name, image in images.items()}
    count = _count_channels(stacks, channel_names)
    rows = [_make_row(stacks, index, count, show) for index in range(count)]
    height, width = list(stacks.values())[-1].shape[-2:]
    ratio = min(max(height / width, 0.4), 2.5)
    figure = make_figure((WIDTH * len(rows[0]) + 0.8, (WIDTH * ratio + 0.2) * count + 0.2))
    grid = figure.subplots(count, len(rows[0]), squeeze=False)
    for index, (row, places) in enumerate(zip(rows, grid)):
        for place, panel in zip(places, row):
            _draw_panel(figure, place, panel)
        if channel_names:
            label_row(places[0], channel_names[index], fontsize=11)
    if title:
        figure.suptitle(title, fontsize=11)
    save_figure(figure, path, force)


def box(path: str | Path, table: Mapping, *, label: str = "r", force: bool = False) -> None:
    """Draw the scores of each group: quartiles as a box, whiskers to the extremes, all points.

    Args:
        table: mapping from group to a sequence of float, or to a mapping from series, which
            stand side by side, to such sequences. Scores that are not finite are left out.
        label: str. Title of the vertical axis.

    Raises:
        ValueError: if `table` is empty.

    Examples:
        >>> import tempfile
        >>> table = {"DNA": {"gvtnet": [0.8, 0.9], "fnet": [0.7, 0.8]}}
        >>> box(Path(tempfile.mkdtemp()) / "box.svg", table, label="Pearson r")
    """
    table = {g: v if isinstance(v, Mapping) else {"": v} for g, v in table.items()}
    series = _list_series(table)
    room = len(table) * max(1, 0.7 * len(series))
    crowded = sum(len(str(group)) for group in table) > 10 * room
    figure = make_figure((max(2.8, 1.0 + 0.7 * room), 4.2 if crowded else 3.4))
    place = figure.subplots()
    for index, name in enumerate(series):
        offset = (index - (len(series) - 1) / 2) * 0.8 / len(series)
        groups = [(x + offset, g[name]) for x, g in enumerate(table.values()) if name in g]
        _draw_boxes(place, groups, 0.6 / len(series), COLORS[index % len(COLORS)], name)
    slanted = {"rotation": 35, "ha": "right", "rotation_mode": "anchor"} if crowded else {}
    place.set_xticks(range(len(table)), list(table), **slanted)
    place.set_xlim(-0.6, len(table) - 0.4)
    place.set_ylabel(label)
    if series != [""]:
        figure.legend(loc="outside upper center", ncols=min(3, len(series)), frameon=False)
    save_figure(figure, path, force)


def dots(path: str | Path, table: Mapping, *, label: str = "r", force: bool = False) -> None:
    """Draw many series of few scores: a panel per group, a row per series, a dot per score.

    Each panel has its own scale; a bar marks the mean of a series.

    Args:
        table: mapping from group to a mapping from series to a sequence of float.
        label: str. Title of the horizontal axes.

    Raises:
        ValueError: if `table` is empty.

    Examples:
        >>> import tempfile
        >>> table = {"DNA": {"gvtnet": [0.8, 0.9], "fnet": [0.7, 0.8]}}
        >>> dots(Path(tempfile.mkdtemp()) / "dots.svg", table)
    """
    series = _list_series(table)
    names = 0.09 * max(map(len, series))  # inches
    figure = make_figure((names + WIDTH * len(table), 1.0 + 0.28 * len(series)))
    places = figure.subplots(1, len(table), sharey=True, squeeze=False)[0]
    for place, (group, scores) in zip(places, table.items()):
        for row, name in enumerate(series):
            values = np.asarray(scores.get(name, ()), float)
            place.plot(values, np.full(len(values), row), "o", ms=5, alpha=0.7, color=COLORS[0])
            if len(values):
                place.plot(values.mean(), row, "|", ms=14, mew=2, color=COLORS[1])
        place.set_title(group)
        place.set_xlabel(label)
        place.grid(axis="y", color="0.9")
        place.set_axisbelow(True)
    places[0].set_yticks(range(len(series)), series)
    places[0].invert_yaxis()
    save_figure(figure, path, force)


def curves(path: str | Path, history: Mapping[str, Sequence], *, force: bool = False) -> None:
    """Draw training curves, `loss` and `val_loss` in one panel, one panel per quantity.

    Args:
        history: mapping from column to a sequence of numbers, one per epoch, as in Keras'
            `History.history`. `epoch`, if it is there, is the horizontal axis. `None` and `nan`
            leave a gap. Scales of positive values over more than a decade are logarithmic.

    Raises:
        ValueError: if there is nothing to draw.

    Examples:
        >>> import tempfile
        >>> history = {"epoch": [1, 2, 3], "loss": [3, 2, 1], "val_loss": [3, 2.5, 2]}
        >>> curves(Path(tempfile.mkdtemp()) / "history.svg", history)
    """
    columns = {name: np.asarray(values, np.float64) for name, values in history.items()}
    epochs = columns.pop("epoch", None)
    panels = list(dict.fromkeys(name.removeprefix("val_") for name in columns))
    if not panels:
        raise ValueError("`history` must hold at least one column besides `epoch`. Received: none.")
    figure = make_figure((3.4 * len(panels), 2.8))
    for place, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels):
        names = {"training": panel, "validation": f"val_{panel}"}
        lines = {label: columns[name] for label, name in names.items() if name in columns}
        for color, (label, values) in zip(COLORS, lines.items()):
            x = np.arange(1, len(values) + 1) if epochs is None else epochs
            marker = "o" if len(values) < 30 else None
            place.plot(x, values, color=color, label=label, marker=marker, markersize=3)
        values = np.concatenate(list(lines.values()))
        values = values[np.isfinite(values)]
        if len(values) and 0 < 10 * values.min() < values.max():
            place.set_yscale("log")
        place.set(xlabel="epoch", title=panel.replace("_", " "))
        place.xaxis.get_major_locator().set_params(integer=True)
        if f"val_{panel}" in columns:
            place.legend(frameon=False)
    save_figure(figure, path, force)


@dataclass(frozen=True)
class _Panel:
    plane: np.ndarray | None  # nothing is drawn for `None`
    heading: str = ""
    limits: tuple = (0, 1)
    colors: str = "gray"
    bar: bool = False


def _to_stack(name, image, axes):
    """Return `image` in the order `(channel, frame, z, y, x)`."""
    image = np.asarray(image)
    letters = axes.get(name) if isinstance(axes, Mapping) else axes
    if letters is None and image.ndim not in (2, 3):
        raise ValueError(
            f"`axes` must name the axes of {name!r}. Received: an array of shape {image.shape}."
        )
    return rearrange(image, check_axes(letters or "ZYX"[-image.ndim :], image.ndim), "CTZYX")


def _count_channels(stacks, channel_names):
    """Return the number of channels, if truth and predictions have one shape."""
    if not stacks:
        raise ValueError("`images` must hold at least one image. Received: none.")
    shapes = {name: x.shape for name, x in stacks.items() if name != "input"}
    if len({*shapes.values()}) > 1:
        received = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(
            f"Truth and predictions must have one shape. Received (CTZYX): {received}."
        )
    count = next(iter(shapes.values()), next(iter(stacks.values())).shape)[0]
    if len(channel_names) not in (0, count):
        raise ValueError(
            f"`channel_names` must name each of the {count} channels. Received: {channel_names}."
        )
    return count


def _make_row(stacks, index, count, show):
    """Return the panels of one channel: input, truth, then each prediction and its difference."""
    row = [_input_panel(stacks["input"], index, count, show)] if "input" in stacks else []
    planes = {name: _project(x[index], show) for name, x in stacks.items() if name != "input"}
    if "truth" not in planes:
        return row + [_Panel(p, n, contrast_limits(p), bar=True) for n, p in planes.items()]
    true = planes.pop("truth")
    gray = contrast_limits(true)
    row.append(_Panel(true, "truth", gray, bar=True))
    errors = {name: plane.astype(np.float64) - true for name, plane in planes.items()}
    top = max((np.percentile(np.abs(e), DIFFERENCE) for e in errors.values()), default=0) or 1.0
    for name, plane in planes.items():
        r = metrics.pearson(stacks["truth"][index], stacks[name][index])
        row.append(_Panel(plane, f"{name}, r = {r:.3f}", gray))
        row.append(_Panel(errors[name], f"{name} - truth", (-top, top), "RdBu_r", bar=True))
    return row


def _input_panel(stack, index, count, show):
    # An input with other channels than the truth is shown once, by its first channel.
    if len(stack) != count and index:
        return _Panel(None)
    heading = "input" if len(stack) in (1, count) else f"input, channel 0 of {len(stack)}"
    plane = _project(stack[index], show)
    return _Panel(plane, heading, contrast_limits(plane))


def _project(stack, show):
    """Reduce `(frame, z, y, x)` to `(y, x)`."""
    frame = stack[len(stack) // 2]
    return frame.max(0) if show == "max" else frame[len(frame) // 2]


def _draw_panel(figure, place, panel):
    place.set_axis_off()
    if panel.plane is None:
        return
    low, high = panel.limits
    image = place.imshow(panel.plane, cmap=panel.colors, vmin=low, vmax=high)
    place.set_title(panel.heading, fontsize=9)
    if panel.bar:
        bar = figure.colorbar(image, cax=place.inset_axes([1.03, 0, 0.04, 1]))
        bar.ax.tick_params(labelsize=7)
        bar.outline.set_linewidth(0.4)


def _list_series(table):
    """List the names of the series of all groups, each once; refuse a table of no group."""
    if not table:
        raise ValueError("`table` must hold at least one group of scores. Received: none.")
    return list(dict.fromkeys(name for group in table.values() for name in group))


def _draw_boxes(place, groups, width, color, label):
    # Not `Axes.boxplot`, which loads pyplot and with it chooses a backend for everyone.
    for x, values in groups:
        v = np.asarray(values, np.float64)
        v = v[np.isfinite(v)]
        # Evenly spread in order of appearance: the same figure every time.
        spread = (np.arange(len(v)) % 5 - 2) * width / 8
        place.plot(x + spread, v, "o", color=color, markersize=3.5, alpha=0.8, label=label or None)
        label = None  # one entry per series in the legend
        if len(v):
            low, q1, median, q3, high = np.percentile(v, (0, 25, 50, 75, 100))
            left, right = x - width / 2, x + width / 2
            place.fill_between([left, right], q1, q3, facecolor=color, edgecolor=color, alpha=0.35)
            place.hlines(median, left, right, color=color, linewidth=1.8)
            place.hlines([low, high], x - width / 4, x + width / 4, color=color, linewidth=1)
            place.vlines([x, x], [low, q3], [q1, high], color=color, linewidth=1)


def make_figure(size):
    """Make an empty figure of `size` inches, without pyplot, which would choose a backend."""
    from matplotlib.figure import Figure

    return Figure(figsize=size, dpi=DPI, layout="constrained")


def label_row(place, name, fontsize):
    """Write the name of a row of panels beside its first one."""
    place.text(-0.06, 0.5, name, rotation=90, ha="right", va="center",
               transform=place.transAxes, fontsize=fontsize)  # fmt: skip


def save_figure(figure, path, force):
    """Write a figure, whole or not at all."""
    with atomic_write(path, force) as temporary:
        field = "Software" if temporary.suffix.lower() == ".png" else "Creator"
        figure.savefig(temporary, bbox_inches="tight", metadata={field: MARK})
