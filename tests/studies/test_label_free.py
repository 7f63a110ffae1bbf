"""A study: every step is done once, whatever stopped it, and the table says what was found."""

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
import tifffile
import yaml
from small import MODEL

from gvtnets_tf.cli import main as cli
from gvtnets_tf.data import pairing
from gvtnets_tf.evaluation import metrics
from gvtnets_tf.images import readers
from gvtnets_tf.images.normalization import Normalizer
from gvtnets_tf.models.gvtnet import GVTNet
from gvtnets_tf.prediction.loading import load
from gvtnets_tf.studies import label_free, label_free_data, label_free_scores, label_free_volumes
from gvtnets_tf.training import callbacks
from gvtnets_tf.training.recipe import Recipe
from gvtnets_tf.zoo import model_folder
from gvtnets_tf.zoo.card import Card

WORDS = (
    "--structures nuclei --volumes 2 1 5 --shape 16 32 32 --filters 2 --steps 2 --batch-size 1 "
    "--patch-size 16 16 16"
)
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SMALL = {key: value for key, value in MODEL.items() if key != "class"}
CARD = Card(input_normalizer=Normalizer("none"), denormalize="none", bytes_per_voxel=2000.0)
TINY = {
    "volumes": (2, 1, 5),
    "shape": (16, 32, 32),
    "filters": 2,
    "steps": 2,
    "patch_size": (16, 16, 16),
    "batch_size": 1,
    "progress": False,
}


@pytest.fixture
def untrained(monkeypatch):
    """Put small untrained networks in place of trained ones; say which were asked for."""
    asked = []

    def train(recipe, out, *, resume, force, progress):
        asked.append((out.parent.parent.name, recipe["preset"], resume))
        # So small that it is traced at once; another one for each name.
        filters = recipe["model"]["filters"] + (recipe["preset"] == "fnet")
        model = GVTNet(**{**SMALL, "filters": filters})
        model.build((None, None, None, None, 1))
        out.mkdir(parents=True, exist_ok=force)
        model_folder.save_model(out, model, CARD)
        (out / "recipe.yaml").write_text(yaml.safe_dump(recipe))
        (out / "history.csv").write_text("epoch\n")

    monkeypatch.setattr(label_free, "train", train)
    return asked


def data_set(root, shape=(2, 18, 90, 100), train=3, test=2):
    """Write a data set of DNA, as the published one lies on disk."""
    sizes = {"PhysicalSizeX": 0.108, "PhysicalSizeY": 0.108, "PhysicalSizeZ": 0.29}
    tables = {"train": range(train), "test": range(train, train + test)}
    (root / "dna").mkdir(parents=True)
    for table, numbers in tables.items():
        lines = ["path_czi,channel_target,channel_signal"]
        for i in numbers:
            pixels = np.random.default_rng(i).integers(100, 4000, shape).astype("uint16")
            words = {"axes": "CZYX", **sizes}
            tifffile.imwrite(root / f"{i}.ome.tif", pixels, metadata=words)
            lines.append(f"{i}.ome.tif,1,0")
        (root / "dna" / f"{table}.csv").write_text("\n".join(lines) + "\n")
    return root


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_study_of_simulated_cells_gives_a_table_and_a_figure(tmp_path, untrained):
    out = tmp_path / "s"
    rows = label_free.run_label_free_study(out, structures=["nuclei", "bodies"], **TINY)
    assert [(r["structure"], r["model"]) for r in rows] == [
        *(("nuclei", m) for m in label_free.MODELS),
        *(("bodies", m) for m in label_free.MODELS),
    ]
    assert (out / "r.png").stat().st_size > 1000
    assert (out / "table.txt").read_text() == label_free_scores.format_study(rows) + "\n"
    assert [float(r["r_mean"]) for r in rows_of(out / "table.csv")] == [r["r_mean"] for r in rows]
    assert [r["parameters"] for r in rows] == [2_293, 1_061] * 2
    assert all(r["n"] == 5 and r["seconds"] > 0 for r in rows)
    assert [r["p"] is None for r in rows] == [True, False] * 2
    assert all(0 < r["p"] < 1 for r in rows if r["model"] == "label_free")


def test_scores_are_those_of_the_prepared_volumes(tmp_path, untrained):
    out = tmp_path / "s"
    (row,) = label_free.run_label_free_study(out, structures=["nuclei"], models=["fnet"], **TINY)
    scores = rows_of(out / "nuclei" / "fnet" / "scores.csv")
    parts = [score["split"] for score in scores]
    assert parts == ["train"] * 2 + ["test"] * 5  # none of the validation split
    prediction = readers.read(out / "nuclei" / "fnet" / "predictions" / "test_03.tif").numpy()
    target = readers.read(out / "nuclei" / "volumes" / "target" / "test_03.tif").numpy()
    assert (target.mean(), target.std()) == pytest.approx((0, 1), abs=1e-3)
    assert metrics.normalized_l2(target, np.zeros_like(target)) == 1.0
    r, l2 = (float(scores[2][key]) for key in ("r", "normalized_l2"))
    assert r == pytest.approx(metrics.pearson(target, prediction), abs=1e-6)
    assert l2 == pytest.approx(metrics.normalized_l2(target, prediction), abs=1e-6)
    assert row["l2_test"] == pytest.approx(np.mean([float(s["normalized_l2"]) for s in scores[2:]]))
    # The model folder takes images as they were recorded, and answers the same.
    recorded = readers.read(out / "data" / "cells" / "003.tif").select_channels(["light"])
    model = load(out / "nuclei" / "fnet" / "model")
    assert model.card.input_normalizer.kind == "zscore"
    np.testing.assert_allclose(model.predict(recorded)[0].numpy("ZYX"), prediction, atol=1e-4)


def test_what_is_done_is_not_done_again_and_a_study_can_grow(tmp_path, untrained, monkeypatch):
    out = tmp_path / "s"
    label_free.run_label_free_study(out, structures=["nuclei"], models=["fnet"], **TINY)
    kept = {p: p.stat().st_mtime_ns for p in out.rglob("*.tif")}
    label_free.run_label_free_study(out, structures=["nuclei", "bodies"], models=["fnet"], **TINY)
    assert untrained == [("nuclei", "fnet", False), ("bodies", "fnet", False)]
    assert {p: p.stat().st_mtime_ns for p in kept} == kept


def test_a_kill_between_two_volumes_costs_the_one_under_way(tmp_path, untrained, monkeypatch):
    out = tmp_path / "s"
    real, seen = label_free_scores._score_volume, []

    def stopped(row, *rest):
        seen.append(row.input.stem)
        if len(seen) == 4:
            raise KeyboardInterrupt
        return real(row, *rest)

    monkeypatch.setattr(label_free_scores, "_score_volume", stopped)
    with pytest.raises(KeyboardInterrupt):
        label_free.run_label_free_study(out, structures=["nuclei"], models=["fnet"], **TINY)
    assert not (out / "table.csv").exists()
    (row,) = label_free.run_label_free_study(out, structures=["nuclei"], models=["fnet"], **TINY)
    names = ["train_00", "train_01", *(f"test_{i:02d}" for i in range(3, 8))]
    assert seen == [*names[:4], *names[3:]]
    assert (row["n"], len(untrained)) == (5, 1)


def test_a_kill_while_volumes_are_prepared_costs_one(tmp_path, untrained, monkeypatch):
    out = tmp_path / "s"
    real, count = label_free_volumes.prepare_pair, []

    def stopped(*args):
        count.append(1)
        if len(count) == 3:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(label_free_volumes, "prepare_pair", stopped)
    with pytest.raises(KeyboardInterrupt):
        label_free.run_label_free_study(out, structures=["nuclei"], models=["fnet"], **TINY)
    label_free.run_label_free_study(out, structures=["nuclei"], models=["fnet"], **TINY)
    assert len(count) == 3 + 6


@pytest.mark.slow
def test_a_study_trains_for_real_and_a_kill_costs_one_epoch(tmp_path, monkeypatch, capsys):
    out = tmp_path / "s"
    line = ["study", "label-free", "--simulate", "--out", str(out), *WORDS.split()]
    line += ["--models", "label_free"]
    real = callbacks.Backup.on_epoch_end

    def stopped(self, epoch, logs=None):
        real(self, epoch, logs)
        raise KeyboardInterrupt

    monkeypatch.setattr(callbacks.Backup, "on_epoch_end", stopped)
    with pytest.raises(SystemExit) as end:
        cli.main(line)
    assert end.value.code == 130
    assert (out / "nuclei" / "label_free" / "training" / "resume").is_dir()
    monkeypatch.setattr(callbacks.Backup, "on_epoch_end", real)
    capsys.readouterr()
    cli.main(line)
    shown = capsys.readouterr()
    assert shown.out.splitlines()[1].split()[:3] == ["nuclei", "label_free", "24,445"]
    assert ("Epoch 1/2" in shown.err, "Epoch 2/2" in shown.err) == (False, True)
    assert len(rows_of(out / "nuclei" / "label_free" / "model" / "history.csv")) == 2
    assert not (out / "nuclei" / "label_free" / "training").exists()


@pytest.mark.slow
def test_two_networks_are_trained_and_compared_by_one_command(tmp_path, capsys):
    out = tmp_path / "s"
    cli.main(["study", "label-free", "--simulate", "--out", str(out), *WORDS.split()])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    assert [line[:3] for line in lines] == [
        ["nuclei", "fnet", "91,729"],
        ["nuclei", "label_free", "24,445"],
    ]
    assert 0 < float(lines[1][-1]) < 1  # p


def test_a_study_goes_on_with_its_own_settings_only(tmp_path, untrained):
    out = tmp_path / "s"
    label_free.run_label_free_study(out, structures=["nuclei"], models=["fnet"], **TINY)
    with pytest.raises(
        ValueError, match=r"started with other settings: steps was 2, is 3\. Continue with"
    ):
        label_free.run_label_free_study(
            out, structures=["nuclei"], models=["fnet"], **{**TINY, "steps": 3}
        )
    (tmp_path / "other").mkdir()
    with pytest.raises(FileExistsError, match="other exists and holds no study"):
        label_free.run_label_free_study(tmp_path / "other", structures=["nuclei"], **TINY)


def test_a_data_set_on_disk_is_resized_and_cropped_as_published(tmp_path, untrained, monkeypatch):
    root = data_set(tmp_path / "data")
    kept = ("filters", "steps", "patch_size", "batch_size", "progress")
    settings = {key: TINY[key] for key in kept}
    out = tmp_path / "s"
    (row,) = label_free.run_label_free_study(
        out, root, models=["fnet"], volumes=(2, 1, 2), **settings
    )
    assert (row["structure"], row["n"], row["p"]) == ("dna", 2, None)
    shapes = {
        row.input.stem: readers.read(row.input).shape
        for row in pairing.read_pairs_csv(out / "dna" / "volumes" / "pairs.csv")
    }
    assert shapes["train_00"] == shapes["validation_02"] == (18, 34, 37)
    assert shapes["test_03"] == shapes["test_04"] == (16, 32, 32)
    card = json.loads((out / "dna" / "fnet" / "model" / "model.json").read_text())
    assert card["input_normalizer"]["kind"] == card["target_normalizer"]["kind"] == "zscore"
    # Of the z-scores that the volumes were prepared as, nothing leads to counts.
    assert (card["target_statistics"], card["denormalize"]) == ({}, "none")
    label_free.run_label_free_study(tmp_path / "t", root, volumes=(2, 0, 1), crop=False, **settings)
    path = tmp_path / "t" / "dna" / "volumes" / "input" / "test_02.tif"
    assert readers.read(path).shape == (18, 34, 37)


def test_two_models_with_few_volumes_get_no_p(tmp_path, untrained):
    settings = {**TINY, "volumes": (1, 0, 2)}
    rows = label_free.run_label_free_study(tmp_path / "s", structures=["nuclei"], **settings)
    assert (rows[1]["p"], rows[1]["note"]) == (None, "n too small")
    assert "n too small" in label_free_scores.format_study(rows)
    assert not any(math.isnan(rows[0][k]) for k in ("r_sd", "l2_train", "l2_test"))


@pytest.mark.parametrize("name, batch, steps", [("fnet", 24, 50_000), ("label_free", 16, 100_000)])
def test_every_structure_has_a_recipe_with_the_published_numbers(tmp_path, name, batch, steps):
    for structure, known in label_free_data.STRUCTURES.items():
        recipe = Recipe.parse(
            label_free_data.make_recipe(structure, name, tmp_path, tmp_path / "a.csv")
        )
        assert (recipe.batch_size, recipe.steps, recipe.patch_size) == (batch, steps, (32, 64, 64))
        rules = recipe.normalize
        assert (rules.input.kind, rules.target.kind) == ("zscore", "zscore")
        assert rules.denormalize == "stored"
        assert recipe.data.resize == tuple(known.resize)
    changed = label_free_data.make_recipe("dna", name, tmp_path, "a.csv", steps=7)
    assert (changed["steps"], changed["validation_split"]) == (7, 0)


def test_recipes_are_written_for_train_to_read(tmp_path):
    root = data_set(tmp_path / "data")
    written = label_free.write_label_free_recipes(tmp_path / "r", root, volumes=(2, 1, 2), steps=7)
    assert [path.name for path in written] == ["dna_fnet.yaml", "dna_label_free.yaml"]
    values = yaml.safe_load(written[0].read_text())
    assert (values["preset"], values["steps"], values["steps_per_epoch"]) == ("fnet", 7, 1)
    assert values["data"]["resize"] == [1, 0.37241, 0.37241]
    rows = pairing.read_pairs_csv(values["data"]["csv"], values["data"]["root"])
    assert [row.split for row in rows] == ["train"] * 2 + ["validation"] + ["test"] * 2
    with pytest.raises(FileExistsError, match="--force"):
        label_free.write_label_free_recipes(tmp_path / "r", root, volumes=(2, 1, 2))


@pytest.mark.parametrize("path", ["beads", "neuraltube"])
@pytest.mark.parametrize("name", label_free.MODELS)
def test_the_recipes_of_the_examples_can_be_read(path, name):
    recipe = Recipe.load(EXAMPLES / path / f"{name}.yaml")
    assert (recipe.preset, recipe.normalize.denormalize) == (name, "stored")
    assert not any(n % 16 for n in recipe.patch_size)  # the divisor of `fnet`


@pytest.mark.parametrize(
    "words, message",
    [
        ("", "--data FOLDER or --simulate"),
        ("--simulate --data .", "--data FOLDER or --simulate"),
        ("--data none", "none has no folder of a structure: alpha_tubulin"),
        ("--data . --structures dnna", "Did you mean 'dna'"),
        ("--data . --structures dna", "There is no table"),
        ("--data . --shape 8 8 8", "`shape` is that of simulated volumes"),
        ("--simulate --structures nucleii", "Did you mean 'nuclei'"),
        ("--simulate --models fnett", "`model` cannot be 'fnett'. Did you mean 'fnet'"),
        ("--simulate --shape 2 32 32", "`shape along Z` must be at least 4"),
        ("--simulate --volumes 0 1 1", "how many to train on (at least 1)"),
        ("--simulate --recipes", "Recipes are written for a data set on disk"),
        ("--simulate --force", "--force goes with --recipes only"),
    ],
)
def test_bad_words_are_one_line_and_leave_nothing(tmp_path, capsys, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        cli.main(["study", "label-free", "--out", "s", *words.split()])
    said = capsys.readouterr().err.splitlines()[-1]
    assert (end.value.code, said.startswith("gvtnets: "), message in said) == (2, True, True), said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "text, message",
    [
        ("split,r\ntest,0.5\n", r"scores\.csv is not as it was written \('normalized_l2'\)"),
        (
            "r,normalized_l2,seconds,parameters\nx,1,1,1\n",
            r"could not convert string to float: 'x'",
        ),
        ('r,"open\n', r"scores\.csv is not a table"),
    ],
)
def test_scores_that_were_damaged_are_named(tmp_path, text, message):
    (tmp_path / "scores.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        label_free_scores.read_scores(tmp_path)
