"""What the evaluation of virtual staining found, as tables and as files."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from gvtnets_tf.atomic_files import write_csv
from gvtnets_tf.evaluation.statistics import summarize
from gvtnets_tf.evaluation.virtual_staining import figures

BINS = 10
CONSTANT = "constant"  # the model that puts every pixel into the most frequent true bin


@dataclass(frozen=True)
class Label:
    """What was found for one label.

    Attributes:
        images: int. How many have the label.
        available: int. Pixels of all of them.
        pixels: int. How many of these were drawn each time.
        range: `(low, high)`, the values of the images that were sent to 0 and 1.
        r: mapping from model (`"prediction"` and, where given, `"baseline"`) to an array of
            Pearson correlations, one per repeat.
        counts: mapping from model to an int array (10, 10): pixels by true bin (row) and
            predicted bin (column).
        crops: list of `(name of the image, mapping from role to a plane)`, for the figure.
    """

    images: int
    available: int
    pixels: int
    range: tuple
    r: Mapping
    counts: Mapping
    crops: list = field(default_factory=list)

    def correlations(self):
        """Mean and deviation over the repeats: `statistics.summarize` of each model.

        With a baseline, `"difference"` is that of prediction minus baseline, on the same
        pixels each time.
        """
        found = {model: summarize(r) for model, r in self.r.items()}
        if "baseline" in self.r:
            found["difference"] = summarize(self.r["prediction"] - self.r["baseline"])
        return found

    def accuracies(self):
        """Share of pixels in the right bin: of each true bin (`nan` if empty), and of all.

        Returns:
            Mapping from model, with `"constant"` last, to a list of ten and a float.
        """
        true = next(iter(self.counts.values())).sum(1)
        constant = np.zeros((BINS, BINS), int)
        constant[:, true.argmax()] = true
        found = {}
        for model, counts in {**self.counts, CONSTANT: constant}.items():
            right = np.diag(counts)
            bins = np.divide(right, true, out=np.full(BINS, np.nan), where=true > 0)
            found[model] = bins.tolist(), float(right.sum() / true.sum())
        return found

    def per_thousand(self):
        """The counts of each model per 1,000 pixels."""
        return {model: counts * (1000 / counts.sum()) for model, counts in self.counts.items()}


@dataclass(frozen=True)
class Staining:
    """What `staining.measure` found.

    Attributes:
        labels: mapping from label to `Label`.
    """

    labels: Mapping

    def write(self, folder):
        """Write three tables and, per label, two figures into an existing folder.

        `pearson.csv` has a row per label, `bins.csv` one per label and model,
        `confusion.csv` one per label, model and true bin (counts per 1,000 pixels).
        """
        folder = Path(folder)
        write_csv(folder / "pearson.csv", self._pearson())
        write_csv(folder / "bins.csv", self._bins())
        write_csv(folder / "confusion.csv", self._confusion())
        for label, found in self.labels.items():
            name = label.replace("/", "_").replace("\\", "_")
            overall = {model: share for model, (_, share) in found.accuracies().items()}
            figures.confusion(
                folder / f"confusion_{name}.png", found.per_thousand(), overall, title=label
            )
            figures.crops(folder / f"crops_{name}.png", found.crops, found.range, label)

    def summary(self):
        """The same as mappings and lists, for JSON."""
        return {label: _summary(found) for label, found in self.labels.items()}

    def __str__(self):
        return "\n\n".join(_table(label, found) for label, found in self.labels.items())

    def _pearson(self):
        rows = []
        for label, found in self.labels.items():
            row = {"label": label, "images": found.images, "available": found.available}
            row |= {"pixels": found.pixels, "repeats": len(found.r["prediction"])}
            for model, scores in found.correlations().items():
                prefix = "" if model == "prediction" else f"{model}_"
                row |= {f"{prefix}r": scores["mean"], f"{prefix}sd": scores["sd"]}
            rows.append(row)
        return rows

    def _bins(self):
        return [
            {"label": label, "model": model}
            | dict(zip(("low", "high"), found.range))
            | {f"bin_{i}": share for i, share in enumerate(bins)}
            | {"overall": overall}
            for label, found in self.labels.items()
            for model, (bins, overall) in found.accuracies().items()
        ]

    def _confusion(self):
        return [
            {"label": label, "model": model, "true_bin": i}
            | {f"predicted_{j}": float(share) for j, share in enumerate(row)}
            for label, found in self.labels.items()
            for model, shares in found.per_thousand().items()
            for i, row in enumerate(shares)
        ]


def _summary(found):
    return {
        "images": found.images,
        "available": found.available,
        "pixels": found.pixels,
        "range": list(found.range),
        "pearson": found.correlations(),
        "accuracy": {
            model: {"bins": bins, "overall": overall}
            for model, (bins, overall) in found.accuracies().items()
        },
        "confusion": {model: x.tolist() for model, x in found.per_thousand().items()},
    }


def _table(label, found):
    """Return what was found of one label as lines of text, in the manner of Tables III and V."""
    repeats = len(found.r["prediction"])
    drawn = f"{repeats} x {found.pixels} of {found.available} pixels"
    whole = f"all {found.available} pixels"
    chosen = drawn if found.pixels < found.available else whole
    lines = [f"staining {label}: {chosen}, images: {found.images}"]
    bins = "".join(f"{f'bin {i}':>7}" for i in range(BINS))
    lines.append(f"{'':12}{'r':>9}{'sd':>9}{'overall':>9}{bins}")
    scores, accuracies = found.correlations(), found.accuracies()
    for model in dict.fromkeys([*scores, *accuracies]):
        r = scores.get(model)
        line = f"{model:12}" + (f"{r['mean']:9.4f}{_number(r['sd'], 9, 4)}" if r else f"{'':18}")
        if model in accuracies:
            shares, overall = accuracies[model]
            line += f"{overall:9.3f}" + "".join(_number(share, 7, 3) for share in shares)
        lines.append(line)
    return "\n".join(lines)


def _number(value, width, digits):
    return f"{'-':>{width}}" if np.isnan(value) else f"{value:{width}.{digits}f}"
