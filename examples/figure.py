"""Plot the scores of several methods side by side: a point per image, a bar at the mean.

    python examples/figure.py runs/embryo/*/scores.csv --x photons --y psnr --out embryo.png

A table is CSV with a column for `--x`, one for `--y`, and one called `method`; where there is
none, as in the `metrics.csv` of `gvtnets evaluate`, the name of its folder is the method.
"""

import argparse
import csv
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from gvtnets_tf.evaluation.plots import save_figure


def read_rows(path):
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            yield {"method": path.parent.name, **row}


def draw(table, x, y, names):
    """Return a figure: groups along x, in each a column of points per method."""
    groups = list(dict.fromkeys(row[x] for row in table))
    methods = list(dict.fromkeys(row["method"] for row in table))
    figure = Figure(figsize=(2.5 + 1.2 * len(groups), 3.6), dpi=130, layout="constrained")
    axes = figure.add_subplot()
    offsets = np.linspace(-0.25, 0.25, len(methods))
    for i, method in enumerate(methods):
        for at, group in enumerate(groups):
            values = [float(r[y]) for r in table if r["method"] == method and r[x] == group]
            place = np.full(len(values), at + offsets[i])
            label = method if at == 0 else None
            axes.plot(place, values, "o", color=f"C{i}", ms=4, alpha=0.6, label=label)
            axes.plot(at + offsets[i] + np.array([-0.05, 0.05]), [np.mean(values)] * 2, f"C{i}")
    axes.set_xticks(range(len(groups)), names or groups)
    axes.set(xlabel=x, ylabel=y)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def main(args):
    table = [row for path in args.tables for row in read_rows(path)]
    save_figure(draw(table, args.x, args.y, args.names), args.out, args.force)
    print(args.out)


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("tables", type=Path, nargs="+", help="CSV, one or more")
    p.add_argument("--x", required=True, help="column of the groups, e.g. photons")
    p.add_argument("--y", required=True, help="column of the score, e.g. psnr")
    p.add_argument("--names", nargs="+", help="labels of the groups")
    p.add_argument("--out", type=Path, required=True, help="picture to write")
    p.add_argument("--force", action="store_true", help="replace an existing picture")
    main(p.parse_args())
