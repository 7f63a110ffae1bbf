"""The scores of an evaluation as a table and as files."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gvtnets_tf.atomic_files import write_csv
from gvtnets_tf.checks import format_table
from gvtnets_tf.evaluation import plots
from gvtnets_tf.evaluation.statistics import paired_t_test, summarize

# Scores compared with a baseline, and whether more (1) or less (-1) of it is better.
TESTED = {"r": 1, "ssim_fit": 1, "nrmse_fit": -1}


@dataclass(frozen=True)
class Report:
    """The scores of an evaluation; `print` shows them as a table.

    Attributes:
        rows: list of mappings, one per image and channel: `name`, `channel`, every score of
            `metrics.all_metrics`, and with a baseline the same again as `baseline_...`.
        overall: mapping from channel to `scores` (score -> `n`, `mean`, `sd`, `median` over
            images, as in the papers), and with a baseline to `baseline`, the same of the
            baseline, and `tests` (score -> `paired_t_test`; a positive mean difference says that
            the prediction is better).
        regions: mapping from axis letter to `(start, stop)`, the part that was scored.
        staining: `virtual_staining.report.StainingReport`, or `None` without it.

    Examples:
        >>> row = {"name": "a", "channel": "DNA", "r": 0.5}
        >>> print(Report([row], summarize_channels([row])))
        channel DNA  mean   sd  median  n
        r             0.5  nan     0.5  1
    """

    rows: list[dict]
    overall: dict[str, dict]
    regions: Mapping = field(default_factory=dict)
    staining: Any = None

    def write(self, folder: str | Path) -> None:
        """Write `metrics.csv`, `summary.json` and `box.png` into an existing folder."""
        folder = Path(folder)
        write_csv(folder / "metrics.csv", self.rows)
        (folder / "summary.json").write_text(self.json() + "\n", encoding="utf-8")
        keys = {"prediction": "r", "baseline": "baseline_r"}
        keys = {model: key for model, key in keys.items() if key in self.rows[0]}
        r = {c: {m: _column(self.rows, c, k) for m, k in keys.items()} for c in self.overall}
        plots.box(folder / "box.png", r, label="Pearson r")
        if self.staining is not None:
            self.staining.write(folder)

    def json(self) -> str:
        """Return the summary as JSON, which has no infinity and no `nan`: both become `null`."""
        summary = {
            "images": len({row["name"] for row in self.rows}),
            "regions": {letter: list(span) for letter, span in self.regions.items()},
            "channels": self.overall,
        }
        if self.staining is not None:
            summary["staining"] = self.staining.summary()
        finite = json.loads(json.dumps(summary), parse_constant=lambda _: None)
        return json.dumps(finite, indent=2)

    def __str__(self):
        tables = [_format_channel(name, summary) for name, summary in self.overall.items()]
        return "\n\n".join(tables + ([] if self.staining is None else [str(self.staining)]))


def summarize_channels(rows: list[dict]) -> dict[str, dict]:
    """Summarize each score of each channel over the images; see `Report.overall`."""
    scores = [key for key in rows[0] if key not in ("name", "channel")]
    own = [score for score in scores if not score.startswith("baseline_")]
    has_baseline = len(own) < len(scores)
    overall = {}
    for channel in dict.fromkeys(row["channel"] for row in rows):
        column = {score: _column(rows, channel, score) for score in scores}
        overall[channel] = {"scores": {score: summarize(column[score]) for score in own}}
        if has_baseline:
            overall[channel] |= {
                "baseline": {score: summarize(column[f"baseline_{score}"]) for score in own},
                "tests": {
                    score: paired_t_test(*(column[score], column[f"baseline_{score}"])[::sign])
                    for score, sign in TESTED.items()
                },
            }
    return overall


def call_channel(name: str) -> str:
    """Return what to call a channel in a sentence: `channel DNA`, or `channel 3` without a name."""
    return name if name.startswith("channel ") else f"channel {name}"


def _column(rows, channel, score):
    return [row[score] for row in rows if row["channel"] == channel]


def _format_channel(channel, summary):
    """Return the scores of one channel as lines of text."""
    has_baseline = "baseline" in summary
    header = [call_channel(channel), "mean", "sd", "median", "n"]
    rows = []
    for score, s in summary["scores"].items():
        rows.append([score, *(f"{s[key]:.5g}" for key in ("mean", "sd", "median")), str(s["n"])])
        if has_baseline:
            test = summary["tests"].get(score)
            p = "" if test is None else test["note"] or f"{test['p']:.3g}"
            rows[-1] += [f"{summary['baseline'][score]['mean']:.5g}", p]
    header += ["baseline", "p (one-tailed, paired)"] if has_baseline else []
    return format_table(rows, header)
