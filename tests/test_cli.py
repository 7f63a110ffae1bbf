"""The command line: results on standard output, everything else on standard error."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from small import fast_training, recipe, stacks

import gvtnets_tf
from gvtnets_tf.atomic_files import atomic_write
from gvtnets_tf.cli import main as cli
from gvtnets_tf.images import readers, writers
from gvtnets_tf.images.image import Image
from gvtnets_tf.images.normalization import Normalizer
from gvtnets_tf.prediction.predictor import Predictor
from gvtnets_tf.zoo import registry
from gvtnets_tf.zoo.card import Card

ROOT = Path(__file__).parents[1]
COMMANDS = ("train", "predict", "evaluate", "check-pairs", "demo", "zoo", "study")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with small stacks, a recipe and a broken file, to work in."""
    monkeypatch.chdir(tmp_path)
    stacks(tmp_path)
    values = recipe(".", steps=2, steps_per_epoch=1)
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(values))
    (tmp_path / "broken.tif").write_bytes((tmp_path / "in" / "0.tif").read_bytes()[:3000])
    (tmp_path / "there").mkdir()
    return tmp_path


def refuse(capsys, line):
    """Run a line that must end with status 2 and one line on standard error."""
    with pytest.raises(SystemExit) as end:
        cli.main(line.split())
    shown = capsys.readouterr()
    assert end.value.code == 2
    assert shown.out == "" or line.startswith("check-pairs")
    lines = [line for line in shown.err.splitlines() if line]
    (said,) = [line for line in lines if "tile/s" not in line]  # a bar of progress may be there
    assert said.startswith("gvtnets: ")
    return said


def test_a_whole_job_from_training_to_scores(here, capfd):
    cli.main(["train", "r.yaml", "--out", "model"])
    shown = capfd.readouterr()
    assert (shown.out, "Epoch 2/2" in shown.err) == ("model\n", True)

    cli.main(
        [
            "predict",
            "in",
            "--model",
            "model",
            "--out",
            "out",
            "--dtype",
            "uint16",
            "--tile",
            "8",
            "16",
            "16",
        ]
    )
    shown = capfd.readouterr()
    assert shown.out.split() == ["out/0.tif", "out/1.tif"]
    assert "predict" in shown.err
    result = readers.read("out/0.tif")
    assert (result.shape, result.array.dtype) == ((8, 32, 80), np.uint16)
    assert result.voxel_size == pytest.approx(readers.read("in/0.tif").voxel_size)
    said = readers.read_metadata("out/0.tif")
    assert (said["model"], said["mode"], said["tile"]) == ("model", "tiles", [8, 16, 16])

    assert (said["denormalize"], said["units"]) == ("input", "input")
    line = "predict in/0.tif --model model --denormalize none --out score.tif"
    said = refuse(capfd, f"{line} --dtype int16")
    assert "model predicts normalized values, of which int16 would keep a few" in said
    cli.main(line.split())
    assert readers.read_metadata("score.tif")["units"] == "normalized"
    capfd.readouterr()

    line = "evaluate --predictions out --targets gt --baseline in --out scores"
    cli.main([*line.split(), "--region", "X:8:72", "--json"])
    shown = capfd.readouterr()
    scores = json.loads(shown.out)
    assert 0 < scores["channels"]["channel 0"]["scores"]["r"]["mean"] < 1
    assert (scores["images"], scores["regions"]) == (2, {"X": [8, 72]})
    assert json.loads((here / "scores" / "summary.json").read_text()) == scores
    assert {p.name for p in (here / "scores").iterdir()} >= {"metrics.csv", "summary.json"}
    cli.main(["evaluate", "--predictions", "out/0.tif", "--targets", "gt/0.tif"])
    assert capfd.readouterr().out.startswith("channel 0")
    cli.main(["evaluate", "--predictions", "out/0.tif", "--targets", "gt/0.tif", "--json"])
    one = json.loads(capfd.readouterr().out, parse_constant=pytest.fail)  # JSON has no NaN
    assert one["channels"]["channel 0"]["scores"]["r"]["sd"] is None

    # The run goes on with its recipe, by the same words: there is nothing left to do.
    cli.main(["train", "r.yaml", "--out", "model", "--resume"])
    assert capfd.readouterr().out == "model\n"


def test_scores_of_staining_stand_beside_the_usual_ones(here, capfd):
    line = "evaluate --predictions in --targets gt --out scores --json --staining 500"
    cli.main(line.split())
    label = json.loads(capfd.readouterr().out)["staining"]["channel 0"]
    assert (label["images"], label["pixels"], label["pearson"]["prediction"]["n"]) == (2, 500, 30)
    assert {p.name for p in (here / "scores").iterdir()} >= {"pearson.csv", "crops_channel 0.png"}
    cli.main(["evaluate", "--predictions", "in", "--targets", "gt", "--staining"])
    assert "staining channel 0: all 40960 pixels, images: 2" in capfd.readouterr().out


def test_training_without_a_recipe_and_going_on(here, capfd, monkeypatch):
    from gvtnets_tf.models.presets import PRESETS

    fast_training(monkeypatch, bytes_per_voxel=100.0)
    monkeypatch.setitem(PRESETS["unet"].config, "filters", 2)
    line = (
        "train --preset unet --inputs in/*.tif --targets gt --patch-size 8 16 16 --batch-size 1 "
        "--steps 1 --precision float16"
    )
    cli.main([*line.split(), "--out", "model", "--seed", "3"])
    kept = yaml.safe_load((here / "model" / "recipe.yaml").read_text())
    assert (kept["preset"], kept["seed"], kept["data"]["root"]) == ("unet", 3, "..")
    assert (kept["loss"], kept["precision"]) == ("mae", "float16")  # the first from the preset
    cli.main([*line.split(), "--out", "model", "--seed", "3", "--resume"])
    assert capfd.readouterr().out == "model\nmodel\n"
    # The recipe that the run holds is enough, and so is the number of steps it shall have.
    cli.main(["train", "--out", "model", "--resume", "--steps", "2"])
    assert capfd.readouterr().out == "model\n"
    assert yaml.safe_load((here / "model" / "recipe.yaml").read_text()) == kept | {"steps": 2}
    assert len((here / "model" / "history.csv").read_text().splitlines()) == 3
    line = "train r.yaml --out model --force --initial-weights model"
    assert "model is an input of this run, or holds one (model/model.json)" in refuse(capfd, line)


@pytest.mark.parametrize(
    "line, message",
    [
        ("", "COMMAND"),
        ("frain", "'frain'"),
        ("train", "the following arguments are required: --out. See gvtnets train --help"),
        ("train --out m", "Give a recipe, or --preset with --inputs and --targets"),
        ("train --preset unet --out m", "Give a recipe, or --preset with --inputs"),
        ("train none.yaml --out m", "There is no recipe at none.yaml"),
        ("train broken.tif --out m", "broken.tif is not YAML"),
        ("train r.yaml --steps 3 --out m", "the flags --steps would be ignored"),
        ("train r.yaml --out there", "there exists and is not overwritten"),
        ("train r.yaml --out m --resume", "m holds no run to continue"),
        ("train r.yaml --out m --initial-weights there", "there is not a model folder"),
        ("train --preset unnet --inputs in --targets gt --out m", "Did you mean 'unet'"),
        ("train --preset unet --inputs in --targets no --out m", "no file matches no"),
        ("train --preset unet --inputs in --targets gt/0.tif --out m", "do not pair up"),
        ("predict none.tif --model there --out o.tif", "no file matches none.tif"),
        ("predict in/0.tif --model there --out o.tif", "there is not a model folder"),
        ("predict in/0.tif --model no/where --out o.tif", "no model folder at no/where"),
        ("predict in/0.tif --model simulated --out o.tif", "Did you mean 'simulated_denoiser'"),
        ("predict in/0.tif --model there --out r.yaml", "`suffix of the output` cannot be '.yaml'"),
        ("predict in/0.tif --model there --out gt/0.tif", "gt/0.tif exists and is not overwri"),
        ("predict in/0.tif --model m --out o.tif --tile 8 --whole", "not allowed with argument"),
        ("predict in/0.tif --model MODEL --out o.tif --tile 8 8", "one for each axis of ZYX"),
        ("predict in/0.tif --model MODEL --out o.tif --tile 8 --overlap 8", "nothing left between"),
        ("predict in/0.tif --model MODEL --out o.tif --max-memory 1kB", "does not fit the memory"),
        ("predict in/0.tif --model MODEL --out o.tif --max-memory lots", "with a unit"),
        ("predict in/0.tif --model MODEL --out o.tif --uncertainty", "predicts no scale"),
        ("predict broken.tif --model MODEL --out o.tif", "broken.tif cannot be read as TIFF"),
        ("predict flat.npy --model MODEL --out o.tif", "flat is constant"),
        ("predict nan.npy --model MODEL --out o.tif", "nan holds 1 values that are NaN"),
        ("predict in/0.tif --model MODEL --out o.tif --axes YX", "`axes` must name each axis"),
        ("predict in/0.tif --model MODEL --out o.tif --input-channels 1", "has no channel 1"),
        ("predict bare.npy --model MODEL --out o.tif --resample", "bare has no voxel size along Z"),
        ("predict in/0.tif --model MODEL --out o.tif --voxel-size 1 1", "one number for each of"),
        ("predict in/0.tif --model MODEL --out o.tif --frames 1:", "0 has no axis T: name its"),
        ("predict in/0.tif --model MODEL --out o.tif --gif o.gif", "0 has no axis T: name its"),
        ("predict in/0.tif --model MODEL --model MODEL --out o.zarr", "is given twice: name each"),
        ("predict in/0.tif --model a --model b --out o.tif", "`suffix of the output` cannot be"),
        ("predict in --model a --model b --out o --uncertainty", "for one model at a time"),
        ("evaluate --predictions in --targets gt/0.tif", "do not pair up"),
        ("evaluate --predictions in --targets gt --region X", "must be AXIS:START:STOP"),
        ("evaluate --predictions in --targets gt --staining 1", "`pixels` must be at least 2"),
        ("evaluate --predictions in --targets gt --region X:0:99", "region X: [0, 99] is not"),
        ("evaluate --predictions in --targets gt --out there", "there exists and is not ov"),
        ("evaluate --predictions broken.tif --targets gt/0.tif", "broken.tif cannot be read"),
        ("check-pairs --inputs in --targets none", "no file matches none"),
        ("check-pairs --inputs broken.tif --targets gt/0.tif", "Some pairs cannot be used"),
        ("demo --out there", "there exists and is not overwritten"),
        ("demo --out gt --force", "gt was not written by gvtnets_tf, and --force"),
        ("train r.yaml --out gt --force", "gt is an input of this run, or holds one (gt/*)"),
        ("train r.yaml --out r.yaml --force", "r.yaml was not written by gvtnets_tf, and --force"),
        ("train --out m --resume --steps 9", "There is no recipe at m/recipe.yaml"),
        ("export MODEL --format litert --out r.yaml --force", "r.yaml was not written by gvtnets"),
        ("predict in --model MODEL --out in --force", "in/0.tif is an input of this run, or holds"),
        ("predict in gt/0.tif none.tif --model m --out o", "no file matches none.tif"),
        ("predict in gt/0.tif --model m --out o", "one name, so their results would replace each"),
        ("evaluate --predictions in --targets gt --out gt --force", "gt is an input of this run"),
    ],
)
def test_bad_input_is_one_line_and_status_two(here, capsys, line, message):
    if not line:
        line = "--bogus"
        message = "unrecognized arguments: --bogus"
    np.save("flat.npy", np.ones((8, 16, 16), np.float32))
    array = np.random.default_rng(0).random((8, 16, 16), np.float32)
    np.save("bare.npy", array)
    array[0, 0, 0] = np.nan
    np.save("nan.npy", array)
    before = {p.name for p in here.iterdir()}
    name = next(iter(registry.read_registry()))
    if ".npy" in line:
        line += " --axes ZYX"
    assert message in refuse(capsys, line.replace("MODEL", name))
    assert {p.name for p in here.iterdir()} == before
    assert not list((here / "there").iterdir())


def test_series_that_a_glob_matches_are_predicted_and_both_files_of_each_are_printed(
    here, capsys, monkeypatch
):
    for name in ("embryo_1", "embryo_2"):
        for z in range(8):
            plane = readers.read("in/0.tif").array[z]
            writers.write(f"series/{name}/{z}.tif", Image(plane, "YX"))
    card = Card(input_normalizer=Normalizer("none"), denormalize="none", probabilistic=True)
    predictor = Predictor(lambda x: np.concatenate([x, x], -1), card)
    monkeypatch.setattr("gvtnets_tf.prediction.loading.load", lambda *args, **kwargs: predictor)
    cli.main(["predict", "series/*", "--model", "any", "--out", "out", "--uncertainty"])
    names = [f"out/{place}embryo_{i}.tif" for i in (1, 2) for place in ("", "uncertainty/")]
    assert capsys.readouterr().out.split() == names
    assert readers.read("out/embryo_1.tif").shape == (8, 32, 80)


def test_many_structures_of_a_series_go_into_one_image_by_one_command(here, capsys, monkeypatch):
    x = np.random.default_rng(0).poisson(100, (4, 8, 32, 40)).astype(np.float32)
    writers.write("movie.tif", Image(x, "TZYX", {"Z": 0.4, "Y": 0.2, "X": 0.2}))
    card = Card(
        input_normalizer=Normalizer("zscore"),
        denormalize="none",
        voxel_size={"Z": 0.4, "Y": 0.4, "X": 0.4},
    )
    models = {
        name: Predictor(lambda x, n=n: n * x, card.changed(output_channels=(name,)))
        for n, name in enumerate(("dna", "actin"), 1)
    }
    monkeypatch.setattr("gvtnets_tf.prediction.loading.load", lambda name, precision: models[name])
    line = (
        "predict movie.tif --model dna --model actin --out out.ome.tif --resample --flip-average "
        "--frames=-3: --statistics series --gif out.gif --gif-plane 2 --tile 4 16 16"
    )
    cli.main(line.split())
    assert capsys.readouterr().out.split() == ["out.ome.tif", "out.png", "out.gif"]
    found = readers.read("out.ome.tif")
    assert (found.axes, found.shape) == ("TCZYX", (3, 2, 8, 32, 40))
    assert found.channel_names == ("dna", "actin")
    said = readers.read_metadata("out.ome.tif")
    assert (said["frames"], said["flip_average"]) == ("-3:", True)
    first = said["models"][0]
    assert (first["statistics_of"], first["tile"]) == ("series", [4, 16, 16])
    assert first["resampled_to"] == card.voxel_size
    assert {p.name for p in here.iterdir()} >= {"out.ome.tif", "out.png", "out.gif"}


def test_the_traceback_is_shown_on_request(here, capsys):
    with pytest.raises(SystemExit):
        cli.main(["train", "none.yaml", "--out", "m", "--debug"])
    shown = capsys.readouterr().err
    assert "Traceback" in shown
    assert shown.splitlines()[-1] == "gvtnets: There is no recipe at none.yaml."


def test_a_warning_is_one_line_too(here, capsys, monkeypatch):
    import warnings

    def odd(args):
        warnings.simplefilter("default")
        warnings.warn("these voxels\nare odd", stacklevel=1)

    monkeypatch.setattr(cli.check_pairs, "run", odd)
    cli.main(["check-pairs", "--inputs", "in", "--targets", "gt"])
    assert capsys.readouterr().err == "gvtnets: warning: these voxels are odd\n"


def test_files_that_the_shell_lists_are_predicted_and_one_that_fails_is_status_three(
    here, capsys, monkeypatch
):
    card = Card(input_normalizer=Normalizer("none"), denormalize="none")
    monkeypatch.setattr(
        "gvtnets_tf.prediction.loading.load", lambda *args, **kwargs: Predictor(np.copy, card)
    )
    words = ["predict", "in/0.tif", "broken.tif", "in/1.tif", "--model", "any", "--out", "out"]
    with pytest.raises(SystemExit) as end:
        cli.main(words)
    shown = capsys.readouterr()
    assert (end.value.code, shown.out.split()) == (3, ["out/0.tif", "out/1.tif"])
    lines = [line for line in shown.err.splitlines() if line.startswith("gvtnets: ")]
    assert lines[0].startswith("gvtnets: left out: broken.tif cannot be read as TIFF")
    assert lines[1].startswith(
        "gvtnets: 1 of 3 inputs failed, the others are done: broken.tif cannot be read as TIFF"
    )
    assert len(lines) == 2
    words[1], words[-1] = "in/1.tif", "other"
    with pytest.raises(SystemExit) as end:
        cli.main([*words, "--strict"])
    assert end.value.code == 2
    words = ["predict", "in/0.tif", "in/1.tif", "--model", "any", "--out", "all"]
    cli.main(words)
    assert capsys.readouterr().out.split() == ["all/0.tif", "all/1.tif"]


def test_check_pairs_says_which_pair_is_wrong(here, capsys):
    cli.main(["check-pairs", "--inputs", "in", "--targets", "gt"])
    assert capsys.readouterr().out == "2 pairs, 0 findings\n"
    writers.write("gt/1.tif", Image(np.ones((8, 32, 80), np.float32), "ZYX"), force=True)
    with pytest.raises(SystemExit):
        cli.main(["check-pairs", "--inputs", "in", "--targets", "gt"])
    shown = capsys.readouterr()
    assert "error: in/1.tif and gt/1.tif: The target is constant" in shown.out
    assert "2 pairs, 1 findings" in shown.out


def test_an_interrupt_is_said_in_one_line(here, capsys, monkeypatch):
    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("gvtnets_tf.data.pairing.match_pairs", stop)
    with pytest.raises(SystemExit) as end:
        cli.main(["check-pairs", "--inputs", "in", "--targets", "gt"])
    assert end.value.code == 130
    assert capsys.readouterr().err == "gvtnets: interrupted\n"


def fail(capsys, monkeypatch, error):
    """Let a command raise an error, and return its exit status and what it shows."""

    def run(args):
        raise error

    monkeypatch.setattr(cli.check_pairs, "run", run)
    with pytest.raises(SystemExit) as end:
        cli.main(["check-pairs", "--inputs", "in", "--targets", "gt"])
    return end.value.code, capsys.readouterr().err


@pytest.mark.parametrize(
    "error, line",
    [
        (MemoryError(), "not enough memory: Take less at a time: smaller tiles, patches or batc"),
        (MemoryError("Unable to allocate 9 TiB"), "not enough memory: Unable to allocate 9 TiB T"),
        (RecursionError("too deep"), "what was given is nested too deeply: too deep\n"),
    ],
)
def test_memory_and_depth_that_end_are_said_in_one_line(capsys, monkeypatch, error, line):
    status, shown = fail(capsys, monkeypatch, error)
    assert (status, shown.count("\n")) == (2, 1)
    assert shown.startswith(f"gvtnets: {line}")


def test_a_backend_that_is_not_installed_is_said_in_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "keras", None)
    with pytest.raises(SystemExit) as error:
        cli.main(["demo", "--out", str(tmp_path / "demo")])
    assert error.value.code == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "the backend it is set to, is not installed (import of keras halted" in said
    assert "or set KERAS_BACKEND to the one of tensorflow, jax and torch that is." in said


def test_an_error_of_the_program_itself_is_not_hidden(capsys, monkeypatch):
    with pytest.raises(AttributeError, match="no such thing"):
        fail(capsys, monkeypatch, AttributeError("no such thing"))


@pytest.mark.parametrize(
    "number, status, text", [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "termin")]
)
@pytest.mark.parametrize("other", [None, RuntimeError("a library made this of it")])
def test_a_signal_cleans_up_and_is_one_line(here, capsys, monkeypatch, number, status, text, other):
    def run(args):
        with atomic_write("out.tif") as beside:
            beside.write_text("half")
            try:
                os.kill(os.getpid(), number)
                time.sleep(60)
            except KeyboardInterrupt:
                raise other or KeyboardInterrupt from None

    before, handler = {p.name for p in here.iterdir()}, signal.getsignal(number)
    monkeypatch.setattr(cli.check_pairs, "run", run)
    with pytest.raises(SystemExit) as end:
        cli.main(["check-pairs", "--inputs", "in", "--targets", "gt"])
    shown = capsys.readouterr().err
    assert (end.value.code, shown.count("\n")) == (status, 1)
    assert shown.startswith(f"gvtnets: {text}")
    assert {p.name for p in here.iterdir()} == before
    assert signal.getsignal(number) is handler


def interrupt(words, delay):
    """Start the command in a process of its own, and press Ctrl-C after `delay` seconds."""
    code = "import gvtnets_command; print('go', flush=True); gvtnets_command.main()"
    env = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "PYTHONPATH": str(ROOT)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", code, *words], env=env, **pipes) as process:
        assert process.stdout.readline() == "go\n"
        time.sleep(delay)
        process.send_signal(signal.SIGINT)
        shown = process.communicate(timeout=60)[1]
    shown = shown.replace("\b", "")  # with which Keras draws its bar again, after another line
    return process.returncode, [line for line in shown.splitlines() if line]


def test_ctrl_c_in_the_first_moments_is_one_line(here):
    words = ["predict", "in/0.tif", "--model", "there", "--out", "o.tif"]
    assert interrupt(words, 0.05) == (130, ["gvtnets: interrupted"])


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0.1, 0.3, 0.6, 1, 1.5, 2, 3, 4, 6])
def test_ctrl_c_at_any_moment_is_one_line(here, delay):
    before = {p.name for p in here.iterdir()}
    values = recipe(".", steps=100_000, steps_per_epoch=50_000)
    (here / "r.yaml").write_text(yaml.safe_dump(values))
    status, lines = interrupt(["train", "r.yaml", "--out", "m"], delay)
    assert (status, lines[-1]) == (130, "gvtnets: interrupted")
    assert all("step" in line or "Epoch" in line for line in lines[:-1])  # of the progress bar
    assert {p.name for p in here.iterdir()} - {"m"} == before


@pytest.mark.parametrize("words", [[], ["--help"], *[[c, "--help"] for c in COMMANDS]])
def test_help_is_there_for_every_command(words, capsys):
    if words:
        with pytest.raises(SystemExit) as end:
            cli.main(words)
        assert end.value.code == 0
    else:
        cli.main(words)
    shown = capsys.readouterr()
    assert (shown.out.startswith("usage: gvtnets"), shown.err) == (True, "")
    if len(words) < 2:
        assert all(command in shown.out for command in COMMANDS)


def test_the_version_is_that_of_the_package(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"{gvtnets_tf.__version__}\n"


@pytest.mark.parametrize(
    "code",
    [
        "import gvtnets_tf",
        "import gvtnets_tf; dir(gvtnets_tf)",
        "from gvtnets_tf.cli import main; main.parser().format_help()",
    ],
)
def test_help_and_import_cost_no_heavy_module(code):
    code += "; import sys; print([m for m in ('tensorflow', 'keras', 'numpy') if m in sys.modules])"
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_command_works_in_a_process_of_its_own(here):
    env = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}
    code = "import sys; from gvtnets_tf.cli.main import main; sys.exit(main())"
    words = [
        sys.executable,
        "-c",
        code,
        *["predict", "in/0.tif", "--model", "there", "--out", "o.tif"],
    ]
    done = subprocess.run(words, capture_output=True, text=True, env=env, check=False)
    # TensorFlow was imported on the way; nothing of what it likes to say is here.
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "gvtnets: there is not a model folder: it has no model.json.\n"
