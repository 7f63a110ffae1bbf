"""Damaged files of every kind end in one line, or in an answer: not in a crash, a hang or a leak.

The seed is printed with every failure; `GVTNETS_FUZZ_SEED` chooses another. A mutation depends on
the seed, the kind and its number alone, and a file that fails is kept in the folder of the test.
"""

import os
import random
import shutil
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml
from mutations import damage
from small import MODEL, recipe, stacks

SEED = int(os.environ.get("GVTNETS_FUZZ_SEED", "0"))
COUNT = 200  # mutations of each kind
SECONDS, GROWTH, CHARACTERS = 10, 2**30, 1000  # bounds of one run, and of what it says
ENDS = {0: (0,), 2: (1,), 3: (1, 2)}  # how many errors are told with each status


@dataclass(frozen=True)
class Kind:
    """A kind of file: globs of those to damage, and the line that reads them.

    In the line, `FILE` is the damaged one. `ends` is the status with a sound file, and `says` part
    of the error. Unless `guarded`, a damage may be such that nobody can see it.
    """

    files: str
    line: str
    ends: int = 0
    says: str = ""
    guarded: bool = False


PREDICT = "predict {} --model stack --out new.tif --whole"
# Stops after recipe, images and network were read, and before the first step.
TRAIN = "train {} --out new --initial-weights flat"
OTHER = {"ends": 2, "says": "weights are of another network"}

KINDS = {
    "tiff": Kind("plain.tif", PREDICT.format("FILE --axes ZYX")),
    "ome_tiff": Kind("small.ome.tif", PREDICT.format("FILE")),
    "imagej_tiff": Kind("imagej.tif", PREDICT.format("FILE")),
    "compressed_tiff": Kind("packed_*.tif", PREDICT.format("FILE --axes ZYX")),
    "png": Kind("plane.png", "predict FILE --model flat --out new.tif"),
    "npy": Kind("stack.npy", PREDICT.format("FILE --axes ZYX")),
    "npz": Kind("pairs.npz", TRAIN.format("npz.yaml"), **OTHER),
    "zarr": Kind("image.zarr/**/*", PREDICT.format("image.zarr")),
    "recipe": Kind("recipe.yaml", TRAIN.format("FILE"), **OTHER),
    "table": Kind("pairs.csv", TRAIN.format("table.yaml"), **OTHER),
    "model_json": Kind("stack/model.json", PREDICT.format("small.ome.tif")),
    "weights": Kind("stack/weights.h5", PREDICT.format("small.ome.tif"), guarded=True),
    "record": Kind("result.ome.tif", "evaluate --predictions FILE --targets plain.tif --out new"),
    "stopped_training": Kind("run/re*/*", "train run/recipe.yaml --out run --resume"),
    "stopped_prediction": Kind(
        ".series.tif.parts/*",
        "predict series.npy --axes TZYX --model stack --out series.tif --resume",
    ),
    "fnet_state": Kind("state_*.npz", "convert fnet FILE --out new"),
}  # fmt: skip


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A folder with a sound file of every kind."""
    folder = tmp_path_factory.mktemp("sound")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_models()
        patch.setattr(uuid, "uuid1", lambda: uuid.UUID(int=0))  # of OME-TIFF: each run the same
        write_images()
        write_training(patch)
        write_parts(patch)
    return folder


def write_models():
    import keras
    from zoo.test_conversion import small_state

    from gvtnets_tf import GVTNet
    from gvtnets_tf.zoo.card import Card
    from gvtnets_tf.zoo.model_folder import write_model

    keras.utils.set_random_seed(0)
    arguments = {name: value for name, value in MODEL.items() if name != "class"}
    for name, axes in (("stack", "ZYX"), ("flat", "YX")):
        model = GVTNet(rank=len(axes), **arguments)
        model.build((None,) * (len(axes) + 1) + (1,))
        write_model(name, model, Card(axes, axes, training={"steps": 3}))
    state = small_state()[0]
    np.savez("state_plain.npz", **state)
    np.savez_compressed("state_packed.npz", **state)


def write_images():
    import tifffile
    from PIL import Image as Picture

    from gvtnets_tf.images.image import Image
    from gvtnets_tf.images.writers import write

    pixels = np.random.default_rng(0).integers(0, 4000, (4, 16, 16)).astype(np.uint16)
    image = Image(pixels, "ZYX", {"Z": 0.5, "Y": 0.2, "X": 0.2})
    for name in ("small.ome.tif", "image.zarr", "result.ome.tif"):
        about = {"model": "stack", "tile": [4, 16, 16]} if name[0] == "r" else {}
        write(name, image, metadata=about)
    tifffile.imwrite("plain.tif", pixels, photometric="minisblack", metadata=None)
    tifffile.imwrite("imagej.tif", pixels, imagej=True, metadata={"axes": "ZYX", "spacing": 0.5})
    for name in ("zlib", "lzw"):
        tifffile.imwrite(f"packed_{name}.tif", pixels, compression=name, photometric="minisblack")
    Picture.fromarray((pixels[0] // 16).astype(np.uint8)).save("plane.png")
    np.save("stack.npy", pixels)
    pair = pixels[None, None].astype(np.float32)
    np.savez("pairs.npz", X=pair, Y=pair / 2, axes="SCZYX")


def write_training(patch):
    from gvtnets_tf.training import fitting

    stacks(Path(), count=2, shape=(8, 16, 32))
    small = {"steps": 2, "steps_per_epoch": 1, "patch_size": [4, 8, 8], "batch_size": 1}
    table = "input,target,split\nin/0.tif,gt/0.tif,train\nin/1.tif,gt/1.tif,validation\n"
    Path("pairs.csv").write_text(table)
    data = {"recipe": {"inputs": "in/*", "targets": "gt/*"}, "npz": {"npz": "pairs.npz"}}
    for name, found in {**data, "table": {"csv": "pairs.csv"}}.items():
        kept = {"validation_split": 0} if name == "npz" else {}  # of a pair as small as this
        values = recipe(".", **small, data={"root": ".", **found}, **kept)
        Path(f"{name}.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    fitting.train("recipe.yaml", "run", progress=False)


def write_parts(patch):
    """Predict a series up to the point where its result would be written."""
    from gvtnets_tf.images import writers
    from gvtnets_tf.prediction.files import predict

    write = writers.write

    def stop(path, *args, **kwargs):
        if Path(path).name == "series.tif":
            raise KeyboardInterrupt
        return write(path, *args, **kwargs)

    np.save("series.npy", np.arange(2 * 4 * 16 * 16, dtype=np.uint16).reshape(2, 4, 16, 16))
    os.utime("series.npy", (0, 0))  # a part of the settings
    patch.setattr(writers, "write", stop)
    with pytest.raises(KeyboardInterrupt):
        predict("series.npy", "stack", "series.tif", axes="TZYX", progress=False)


@pytest.mark.parametrize("suffix", [".tif", ".json", ".yaml"])
def test_damage_depends_on_the_seed_alone_and_changes_something(suffix):
    content, seen = b'{"a": [1, {"b": "c"}], "d": null}', set()
    for number in range(100):
        damaged, how = damage(random.Random(number), content, suffix)
        assert (damaged, how) == damage(random.Random(number), content, suffix)
        assert damaged != content
        seen.add(damaged)
    assert len(seen) > 60


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the bounds of memory are those of Linux")
@pytest.mark.parametrize("name", KINDS)
def test_a_damaged_file_ends_in_one_line_or_in_an_answer(name, sound, tmp_path):
    from fuzz_worker import Worker

    kind = KINDS[name]
    files = sorted(path.relative_to(sound) for path in sound.glob(kind.files) if path.is_file())
    worker = Worker((copy(sound, tmp_path / "first"), words_of(kind, files[0])))
    found = []
    try:
        for file in files:  # that a sound one is read is what the others are held against
            done = worker.run(copy(sound, tmp_path / "now"), words_of(kind, file), 60)
            assert (done["status"], len(done["errors"])) == (kind.ends, kind.ends // 2), done
            assert kind.says in done["shown"]
        for number in range(COUNT):
            found += mutate(name, kind, number, files, sound, tmp_path, worker)
    finally:
        worker.stop()
    failed = "\n".join(found[:40])
    said = f"{len(found)} failures with GVTNETS_FUZZ_SEED={SEED}, files in {tmp_path}"
    print(f"{name}: {said}")
    assert not found, f"{said}\n{failed}"


def mutate(name, kind, number, files, sound, place, worker):
    """Run one mutation; return a list with its description if it failed, or nothing."""
    rng = random.Random(f"{SEED} {name} {number}")
    file = rng.choice(files)
    content, how = damage(rng, (sound / file).read_bytes(), file.suffix)
    here = copy(sound, place / "now")
    (here / file).write_bytes(content)
    before = {path for path in here.rglob("*")}
    done = worker.run(here, words_of(kind, file), SECONDS * 6)
    problems = list(judge(kind, done, {*here.rglob("*")} - before))
    if not problems:
        return []
    kept = place / f"{number}_{file.name}"
    kept.write_bytes(content)
    said = " ".join((done["errors"] or done["shown"].splitlines()[-1:] or [""])[-1].split())
    return [f"{number}, {file}: {how}: {'; '.join(problems)}. {said[:300]}"]


def judge(kind, done, new):
    """Yield what is wrong with a run that left the files `new`."""
    status, errors, shown = done["status"], done["errors"], done["shown"]
    if status not in ENDS:
        yield f"status {status}"
    if "Traceback" in shown:
        yield "a traceback"
    # With status 3 the input has its line, and the run may have a summary.
    if status in ENDS and len(errors) not in ENDS[status]:
        yield f"{len(errors)} errors for status {status}"
    if any(len(error) > CHARACTERS for error in errors):
        yield f"an error of {max(map(len, errors))} characters"
    if status != 0 and new:
        yield f"left {', '.join(sorted(path.name for path in new)[:3])}"
    if status == 0 and kind.ends == 0 and kind.guarded:
        yield "not noticed"
    if done["seconds"] > SECONDS:
        yield f"{done['seconds']:.0f} s"
    if done["growth"] > GROWTH:
        yield f"{done['growth'] / 2**30:.1f} GiB"


def words_of(kind, file):
    return [str(file) if word == "FILE" else word for word in kind.line.split()]


def copy(sound, to):
    """Copy the sound files, with their times, in place of what is there."""
    shutil.rmtree(to, ignore_errors=True)
    return Path(shutil.copytree(sound, to))
