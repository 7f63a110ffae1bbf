"""Figures of the virtual-staining paper: confusion matrices, and crops in the color of a stain."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from gvtnets_tf.evaluation.plots import WIDTH, label_row, make_figure, save_figure

# The first part of a label's name; blue nuclei, green dead cells and neurons are the paper's.
STAINS = {
    "DAPI": "#5b7cff",
    "DEAD": "#3dff3d",
    "TUJ1": "#3dff3d",
    "MAP2": "#ff5555",
    "NFH": "#ffd23d",
    "NEURITE": "#ff9a3d",
    "ISLET": "#ff66d9",
    "CELLMASK": "#4de8e8",
}
ROLES = ("input", "target", "baseline", "prediction")  # in the order of the columns


def confusion(
    path: Path, shares: Mapping[str, np.ndarray], overall: Mapping[str, float], label: str
) -> None:
    """Draw the confusion matrix of each model, like Fig. 4 of the paper.

    `shares` are pixels per 1,000 by true bin (row) and predicted bin (column), `overall` the
    shares in the right bin. Colors are shares of the true bin, since a few bins hold most
    pixels: the diagonal has the color of the accuracy of its bin.
    """
    figure = make_figure((4.6 * len(shares) + 0.6, 4.9))
    places = figure.subplots(1, len(shares), squeeze=False)[0]
    for place, model in zip(places, [role for role in ROLES if role in shares]):
        image = _draw_matrix(place, shares[model])
        place.set_title(f"{model}, overall accuracy {overall[model]:.3f}", fontsize=10)
    bar = figure.colorbar(image, ax=places, shrink=0.7, label="share of the true bin")
    bar.outline.set_linewidth(0.4)
    figure.suptitle(f"{label}, pixels per 1,000", fontsize=11)
    save_figure(figure, path, False)


def crops(path: Path, rows: Sequence, limits: tuple[float, float], label: str) -> None:
    """Show some images in the color of their label, like Fig. 3 of the paper.

    `rows` are pairs of the name of an image and a mapping from role (`ROLES`) to a plane. Truth
    and predictions are black to full color within `limits`; the input is gray, by itself.
    """
    roles = [role for role in ROLES if any(role in planes for _, planes in rows)]
    figure = make_figure((WIDTH * len(roles) + 0.3, (WIDTH + 0.1) * len(rows) + 0.4))
    grid = figure.subplots(len(rows), len(roles), squeeze=False)
    for (name, planes), places in zip(rows, grid):
        label_row(places[0], name, fontsize=7)
        for role, place in zip(roles, places):
            place.set_axis_off()
            if role in planes:
                colors = {"cmap": "gray"} if role == "input" else _stain_colors(label, limits)
                place.imshow(planes[role], **colors)
    for role, place in zip(roles, grid[0]):
        place.set_title("truth" if role == "target" else role, fontsize=10)
    figure.suptitle(label, fontsize=11)
    save_figure(figure, path, False)


def _draw_matrix(place, matrix):
    rows = matrix.sum(1, keepdims=True)
    colors = np.divide(matrix, rows, out=np.zeros_like(matrix), where=rows > 0)
    image = place.imshow(colors, cmap="Blues", vmin=0, vmax=1)
    for (i, j), share in np.ndenumerate(matrix):
        if share > 0:
            text = f"{share:.0f}" if share >= 10 else f"{share:.1f}"
            color = "white" if colors[i, j] > 0.6 else "black"
            place.text(j, i, text, ha="center", va="center", fontsize=7, color=color)
    place.set(xlabel="predicted bin", ylabel="true bin", xticks=range(10), yticks=range(10))
    return image


def _stain_colors(label, limits):
    """Return the arguments of `imshow` for a label: black to the color of its stain."""
    from matplotlib.colors import LinearSegmentedColormap

    color = STAINS.get(label.upper().split("_")[0], "#ffffff")
    colors = LinearSegmentedColormap.from_list("stain", ["black", color])
    return {"cmap": colors, "vmin": limits[0], "vmax": limits[1]}
