"""What an evaluation found, as a table and as files."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gvtnets_tf.atomic_files import write_csv
from gvtnets_tf.evaluation import plots
from gvtnets_tf.evaluation.statistics import paired_t_test, summarize

# Scores compared with a baseline, and whether more (1) or less (-1) of it is better.
TESTED = {"r": 1, "ssim_fit": 1, "nrmse_fit": -1}


@dataclass(frozen=True)
class Report:
    """What an evaluation found.

    Attributes:
        rows: list of mappings, one per image and channel: `name`, `channel`, every
            score of `metrics.all_metrics`, and with a baseline the same again as
            `baseline_...`.
        overall: mapping from channel to `scores` (score -> `n`, `mean`, `sd`, `median`
            over images, as in the papers), and with a baseline to `baseline`, the same
            of the baseline, and `tests` (score -> `paired_t_test`; a positive mean
            difference says that the prediction is better than the baseline).
        regions: mapping from axis letter to `(start, stop)`. The part that was scored;
            empty for whole images.
        staining: `staining.Staining`, or `None` where it was not asked for.
    """

    rows: list
    overall: dict
    regions: Mapping = field(default_factory=dict)
    staining: Any = None

    def write(self, folder):
        """Write `metrics.csv`, `summary.json` and `box.png` into an existing folder."""
        folder = Path(folder)
        write_csv(folder / "metrics.csv", self.rows)
        (folder / "summary.json").write_text(self.json() + "\n", encoding="utf-8")
        plots.box(folder / "box.png", self._boxes(), label="Pearson r")
        if self.staining is not None:
            self.staining.write(folder)

    def json(self):
        """The summary as text. JSON knows no infinity and no `nan`: both become `null`."""
        summary = {
            "images": len({row["name"] for row in self.rows}),
            "regions": {letter: list(span) for letter, span in self.regions.items()},
            "channels": self.overall,
        }
        if self.staining is not None:
            summary["staining"] = self.staining.summary()
        return json.dumps(_finite(summary), indent=2, allow_nan=False)

    def _boxes(self):
        series = {"prediction": "r", "baseline": "baseline_r"}
        used = {name: key for name, key in series.items() if key in self.rows[0]}
        return {
            channel: {name: _column(self.rows, channel, key) for name, key in used.items()}
            for channel in self.overall
        }

    def __str__(self):
        tables = [_table(name, found) for name, found in self.overall.items()]
        return "\n\n".join(tables + ([] if self.staining is None else [str(self.staining)]))


def overall(rows):
    """Summarise each score of each channel over the images."""
    scores = [key for key in rows[0] if key not in ("name", "channel")]
    own = [score for score in scores if not score.startswith("baseline_")]
    compared = len(own) < len(scores)
    overall = {}
    for channel in dict.fromkeys(row["channel"] for row in rows):
        column = {score: _column(rows, channel, score) for score in scores}
        overall[channel] = {"scores": {score: summarize(column[score]) for score in own}}
        if compared:
            overall[channel] |= {
                "baseline": {score: summarize(column[f"baseline_{score}"]) for score in own},
                "tests": {
                    score: paired_t_test(*(column[score], column[f"baseline_{score}"])[::sign])
                    for score, sign in TESTED.items()
                },
            }
    return overall


def _column(rows, channel, score):
    return [row[score] for row in rows if row["channel"] == channel]


def _table(channel, found):
    """Return the scores of one channel as lines of text."""
    compared = "baseline" in found
    head = f"{'channel ' + channel:14}{'mean':>12}{'sd':>12}{'median':>12}{'n':>6}"
    lines = [head + (f"{'baseline':>12}  p (one-tailed, paired)" if compared else "")]
    for score, s in found["scores"].items():
        line = f"{score:14}{s['mean']:12.5g}{s['sd']:12.5g}{s['median']:12.5g}{s['n']:6}"
        if compared:
            test = found["tests"].get(score)
            p = "" if test is None else test["note"] or f"{test['p']:.3g}"
            line += f"{found['baseline'][score]['mean']:12.5g}  {p}"
        lines.append(line.rstrip())
    return "\n".join(lines)


def _finite(value):
    if isinstance(value, Mapping):
        return {key: _finite(x) for key, x in value.items()}
    if isinstance(value, list):
        return [_finite(x) for x in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
