"""Score the networks of the label-free study: volume by volume, then as one table."""

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from gvtnets_tf.atomic_files import atomic_rewrite, write_csv
from gvtnets_tf.checks import cut, format_table, read_csv
from gvtnets_tf.data import pairing
from gvtnets_tf.evaluation import metrics, plots
from gvtnets_tf.evaluation.statistics import paired_t_test, summarize
from gvtnets_tf.images import readers, writers
from gvtnets_tf.images.normalization import Normalizer
from gvtnets_tf.prediction.predictor import Predictor
from gvtnets_tf.zoo import model_folder

SCORES, MODEL = "scores.csv", "model"


def score_model(folder: Path, volumes: Path, progress: bool = True) -> None:
    """Predict the volumes of the training and test split one by one, and score each, once.

    `folder` holds the model folder; `scores.csv` and the predictions of the test split are
    written into it. `volumes` holds the prepared volumes and `pairs.csv`.
    """
    rows = pairing.read_pairs_csv(volumes / "pairs.csv")
    scores = read_scores(folder)
    scored = {score["name"] for score in scores}
    rows = [r for r in rows if r.split != "validation" and r.input.stem not in scored]
    if not rows:
        return
    model, card = model_folder.read_model(folder / MODEL)
    predictor = Predictor(model, card.changed(input_normalizer=Normalizer("none")))
    predictor.predict(readers.read(rows[0].input, "ZYX"))  # the first call is slower
    count = sum(math.prod(w.shape) for w in model.trainable_weights)
    for row in progress_bar(rows, f"predict {folder.parent.name}, {folder.name}", progress):
        scores.append({**_score_volume(row, predictor, folder), "parameters": count})
        write_csv(folder / SCORES, scores)


def read_scores(folder: str | Path) -> list[dict]:
    """Read the scores of the volumes of one network; none if there is no `scores.csv`."""
    path = Path(folder) / SCORES
    if not path.is_file():
        return []
    types = {"r": float, "normalized_l2": float, "seconds": float, "parameters": int}
    _, rows = read_csv(path)
    try:
        return [{**row, **{k: kind(row[k]) for k, kind in types.items()}} for row in rows]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not as it was written ({cut(error)}): remove it.") from error


def write_table(out: Path, structures: Sequence[str], models: Sequence[str]) -> list[dict]:
    """Write `table.csv`, `table.txt` and `r.png`; return the rows of `run_label_free_study`."""
    rows, groups = [], {}
    for name in structures:
        scores = {model: read_scores(out / name / model) for model in models}
        groups[name] = {model: _column(s, "test", "r") for model, s in scores.items()}
        rows += [_summarize_model(name, model, scores, groups[name]) for model in models]
    write_csv(out / "table.csv", rows)
    with atomic_rewrite(out / "table.txt") as temporary:
        temporary.write_text(format_study(rows) + "\n")
    plots.box(out / "r.png", groups, label="Pearson r", force=True)
    return rows


def format_study(rows: list[dict]) -> str:
    """Format the rows of a study as text, a line per structure and model."""
    header = ["structure", "model", "parameters", "r", "sd", "n", "L2 train", "L2 test", "seconds"]
    formats = {
        "structure": "", "model": "", "parameters": ",", "r_mean": ".3f", "r_sd": ".3f", "n": "",
        "l2_train": ".3f", "l2_test": ".3f", "seconds": ".2f",
    }  # fmt: skip
    cells = [
        [format(row[key], spec) for key, spec in formats.items()]
        + [row["note"] if row["p"] is None else f"{row['p']:.3g}"]
        for row in rows
    ]
    return format_table(cells, [*header, "p (one-tailed, paired)"])


def _summarize_model(name, model, scores, r):
    """Return the row of a structure and a model."""
    first, own = next(iter(r)), scores[model]
    summary = summarize(r[model])
    test = {"p": None, "note": ""} if model == first else paired_t_test(r[model], r[first])
    l2 = {split: _column(own, split, "normalized_l2") for split in ("train", "test")}
    return {
        "structure": name,
        "model": model,
        "parameters": own[0]["parameters"],
        "r_mean": summary["mean"],
        "r_sd": summary["sd"],
        "n": summary["n"],
        **{f"l2_{split}": summarize(values)["mean"] for split, values in l2.items()},
        "seconds": summarize(_column(own, "test", "seconds"))["median"],
        **{key: test[key] for key in ("p", "note")},
    }


def _column(scores, split, key):
    return [score[key] for score in scores if score["split"] == split]


def progress_bar(rows: Sequence, description: str, progress: bool) -> tqdm:
    """Iterate over volumes with a progress bar on standard error."""
    return tqdm(rows, desc=description, unit="volume", disable=not progress)


def _score_volume(row, predictor, folder):
    image, target = readers.read(row.input, "ZYX"), readers.read(row.target, "ZYX")
    image = replace(image, array=image.numpy())  # not timed
    start = time.perf_counter()
    prediction, info = predictor.predict(image)
    seconds = time.perf_counter() - start
    if row.split == "test":
        path = folder / "predictions" / row.input.name
        writers.write(path, prediction, metadata=info, force=True)
    arrays = target.numpy(), prediction.numpy()
    return {
        "name": row.input.stem,
        "split": row.split,
        "r": metrics.pearson(*arrays),
        "normalized_l2": metrics.normalized_l2(*arrays),
        "seconds": seconds,
    }
