"""A comparison trains networks of equal weights once each, whatever stopped it, and ranks them."""

import csv
import math

import numpy as np
import pytest
import small
import yaml

from gvtnets_tf.atomic_files import write_csv
from gvtnets_tf.cli import main as cli
from gvtnets_tf.images import writers
from gvtnets_tf.images.image import Image
from gvtnets_tf.studies import comparison
from gvtnets_tf.training.recipe import Recipe

STUDY = """
sets:
  cells:
    folder: cells
    recipe:
      data: {inputs: in/*, targets: gt/*, regions: {train: {X: [0, 48]}, validation: {X: [48, 80]}}}
  table:
    folder: cells
    pairs: [[in/0.tif, gt/0.tif], [in/1.tif, gt/1.tif, validation]]
    recipe: {loss: mae}
groups:
  small:
    sets: [cells, table]
    recipe:
      model: {class: GVTNet, rank: 2, filters: 4, depth: 2, encoder_blocks: 0, decoder_blocks: 0}
      patch_size: [16, 16]
      batch_size: 2
      steps: 4
      steps_per_epoch: 2
      loss: mse
    networks:
      unet: {model: {bottom: [residual]}}
      operator and gate: {model: {bottom: [gvto], gate: true}}
"""


@pytest.fixture
def data(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    for i in range(2):
        image = rng.normal(size=(32, 80)).astype("float32")
        for folder in ("in", "gt"):
            writers.write(tmp_path / "data" / "cells" / folder / f"{i}.tif", Image(image, "YX"))
    monkeypatch.setattr(comparison, "read_comparison", lambda name: yaml.safe_load(STUDY))
    small.fast_training(monkeypatch, 2000.0)
    return tmp_path / "data"


def runs_of(out):
    return [(row["set"], row["network"], row["seed"]) for row in comparison.read_runs(out)]


def test_every_network_is_trained_once_on_every_set_with_every_seed(data, tmp_path, monkeypatch):
    trained = []

    def train(recipe, folder, **options):
        trained.append(folder)
        gate, losses = recipe.model.get("gate", False), (0.5, 0.3 + 0.01 * recipe.seed, 0.4)
        rows = [
            {"epoch": i + 1, "val_loss": loss, "val_r": 0.9 - loss + 0.1 * gate}
            for i, loss in enumerate(losses)
        ]
        write_csv(folder / "history.csv", rows)

    monkeypatch.setattr(comparison, "train", train)
    out = tmp_path / "out"
    run = lambda **options: comparison.run_comparison(
        "operators", out, data, progress=False, **options
    )
    table = run(seeds=(0,), networks=["unet"])
    assert [(row["network"], row["n"], row["rank"]) for row in table] == [("unet", 2, 1.0)]
    table = run(seeds=(0, 1))
    names = ["unet", "operator and gate"]
    assert sorted(runs_of(out)) == sorted(
        (key, name, seed) for key in ("cells", "table") for name in names for seed in (0, 1)
    )
    assert len(trained) == len(set(trained)) == 8
    assert [(row["network"], row["n"]) for row in table] == [(name, 4) for name in names]
    assert [row["rank"] for row in table] == [2.0, 1.0]
    assert [row["cells r"] for row in table] == pytest.approx([0.595, 0.695])
    assert {path.name for path in out.iterdir()} >= {"table.csv", "table.txt", "small.png"}

    # The numbers are those of the epoch with the lowest validation loss.
    row = comparison.read_runs(out)[0]
    assert (row["network"], row["epoch"], row["val_loss"]) == ("unet", 2, 0.3)
    assert (row["last_val_loss"], row["last_val_r"]) == pytest.approx((0.4, 0.5))


def test_a_run_that_was_stopped_goes_on_at_its_last_epoch(data, tmp_path, monkeypatch):
    out, train, resumed = tmp_path / "out", comparison.train, []

    def stop(recipe, folder, **options):
        train(recipe.changed(steps=2), folder, **options)
        raise KeyboardInterrupt

    options = {"seeds": (0,), "networks": ["unet"], "sets": ["cells"], "progress": False}
    monkeypatch.setattr(comparison, "train", stop)
    with pytest.raises(KeyboardInterrupt):
        comparison.run_comparison("operators", out, data, **options)
    assert runs_of(out) == []
    spy = lambda *args, resume, **kw: resumed.append(resume) or train(*args, resume=resume, **kw)
    monkeypatch.setattr(comparison, "train", spy)
    comparison.run_comparison("operators", out, data, **options)
    assert resumed == [True]
    assert runs_of(out) == [("cells", "unet", 0)]


@pytest.mark.parametrize("monitor, epoch", [("val_loss", 2), ("val_r", 3)])
def test_the_score_is_that_of_the_weights_that_are_kept(
    tmp_path, data, monkeypatch, monitor, epoch
):
    def train(recipe, folder, **options):
        rows = [(1, 0.5, 0.1), (2, 0.3, 0.6), (3, 0.4, 0.8)]
        names = ("epoch", "val_loss", "val_r")
        write_csv(folder / "history.csv", [dict(zip(names, row)) for row in rows])

    monkeypatch.setattr(comparison, "train", train)
    changes = yaml.safe_load(STUDY)
    changes["groups"]["small"]["networks"]["unet"]["monitor"] = monitor
    monkeypatch.setattr(comparison, "read_comparison", lambda name: changes)
    options = {"seeds": (0,), "networks": ["unet"], "sets": ["cells"], "progress": False}
    comparison.run_comparison("training", tmp_path / "out", data, **options)
    assert comparison.read_runs(tmp_path / "out")[0]["epoch"] == epoch


def test_networks_get_as_many_filters_as_bring_their_weights_nearest(data):
    base = {"data": {"root": str(data / "cells"), "inputs": "in/*", "targets": "gt/*"}}
    base |= {"patch_size": [16, 16]}
    model = {"class": "GVTNet", "rank": 2, "depth": 2, "filters": 12, "bottom": ["residual"]}
    first = Recipe.parse({**base, "model": model})
    recipe = first.changed(model={"bottom": ["gvto"], "filters": 4})

    def count(filters):
        changed = recipe.changed(model={"filters": filters})
        return comparison.build_network(changed, (1, 1)).count_params()

    wanted = comparison.build_network(first, (1, 1)).count_params()
    nearest = min(range(1, 30), key=lambda n: abs(count(n) - wanted))
    assert comparison.match_weights(first, recipe).model["filters"] == nearest > 4
    assert comparison.match_weights(first, first) == first


def test_ranks_are_means_over_whole_comparisons():
    r = {"a": [0.9, 0.4, 0.6], "b": [0.8, 0.5], "c": [0.8, 0.3]}
    rows = [
        {"set": f"set {i % 2}", "seed": i, "network": name, "val_r": value, "weights": 10}
        for name, values in r.items()
        for i, value in enumerate(values)
    ]
    table = {row["network"]: row for row in comparison._summarize("group", rows)}
    # Ranks 1, 2.5, 2.5, then 2, 1, 3; the third seed of a has nothing to be compared with.
    assert {name: row["rank"] for name, row in table.items()} == {"a": 1.5, "b": 1.75, "c": 2.75}
    assert table["a"]["set 0 r"] == pytest.approx(0.75)
    assert table["a"]["n"] == 3
    assert table["a"]["set 0 sd"] == pytest.approx(0.15 * 2**0.5)
    assert math.isnan(table["b"]["set 0 sd"])  # of one seed
    text = comparison.format_comparison(list(table.values()))
    assert text.splitlines()[1].startswith("a ") or text.splitlines()[2].startswith("a ")


def test_the_command_runs_a_comparison(data, tmp_path, capsys):
    words = f"--data {data} --seeds 0 --sets cells --steps 2"
    cli.main(["study", "operators", *words.split(), "--out", str(tmp_path / "out")])
    assert "operator and gate" in capsys.readouterr().out
    with open(tmp_path / "out" / "table.csv") as file:
        ranks = sorted(float(row["rank"]) for row in csv.DictReader(file))
    assert ranks == [1.0, 2.0]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"networks": ["unett"]}, "`network` cannot be 'unett'. Did you mean 'unet'"),
        ({"sets": ["cell"]}, "`set` cannot be 'cell'. Did you mean 'cells'"),
        ({"groups": ["large"]}, "`group` cannot be 'large'"),
    ],
)
def test_names_that_are_not_there_are_refused(data, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        comparison.run_comparison("operators", tmp_path / "out", data, **options)
    assert not (tmp_path / "out").exists()


def test_images_that_are_not_there_are_named(data, tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"images of '(cells|table)' are not there: .*cells"
    ):
        comparison.run_comparison("operators", tmp_path / "out", tmp_path)


def test_runs_of_another_length_are_not_mixed(data, tmp_path):
    options = {"seeds": (0,), "networks": ["unet"], "sets": ["cells"], "progress": False}
    comparison.run_comparison("operators", tmp_path / "out", data, steps=2, **options)
    text = r"The comparison in .*out.*steps.*Continue with the same, or choose another folder"
    with pytest.raises(ValueError, match=text):
        comparison.run_comparison("operators", tmp_path / "out", data, **options)


def test_a_damaged_table_of_runs_is_named(tmp_path):
    (tmp_path / "runs.csv").write_text("group,set\na,b\n")
    with pytest.raises(ValueError, match=r"runs\.csv is not as it was written .*: remove it"):
        comparison.read_runs(tmp_path)


@pytest.mark.parametrize("name", comparison.COMPARISONS)
def test_every_recipe_of_a_comparison_can_be_read_and_keeps_off_the_test_part(name):
    study = comparison.read_comparison(name)
    last = {  # first voxel along X that the validation part does not have
        "cell_painting": 540, "neurons": 576, "nuclei": 1000, "organoid": 96,
    }  # fmt: skip
    for group in study["groups"].values():
        for key in group["sets"]:
            own = study["sets"][key]
            for network in group["networks"].values():
                recipe = Recipe.parse(comparison._merge(group["recipe"], own["recipe"], network))
                stops = [span["X"][1] for span in recipe.data.regions.values()]
                assert max(stops, default=0) <= last.get(key, math.inf)
            assert not any(
                name.startswith("dev_") for pair in own.get("pairs", []) for name in pair
            )
