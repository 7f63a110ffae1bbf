"""Published networks come from the web once, checked; then they are there without it.

The released files are not at hand: a server here serves checkpoints that were written with
their names, at their addresses.
"""

import errno
import json
import subprocess
import sys
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from checkpoints import Parity, save
from common_checks import set_weights
from webserver import serving

from gvtnets_tf import download, load
from gvtnets_tf.cli import main as cli
from gvtnets_tf.models.base import named_weights
from gvtnets_tf.models.gvtnet import GVTNet
from gvtnets_tf.models.presets import PRESETS
from gvtnets_tf.zoo import cache as zoo_cache
from gvtnets_tf.zoo import fetching, registry
from gvtnets_tf.zoo.fetching import fetch

NAME = "denoising_planaria"
SMALL = {"rank": 3, "filters": 2, "depth": 2, "norm": None}


def publish(server, monkeypatch, folder, name, variables):
    """Serve a checkpoint in the place of a released one; the registry has its size and ids."""
    known = registry.read_registry()
    one = known[name]
    prefix = save(folder / "model.ckpt-pretrained", variables)
    for suffix in one["git"]:
        file = prefix.with_name(prefix.name + suffix)
        server.files[f"/{one['path']}{suffix}"] = file.read_bytes()
        one["git"][suffix] = download.compute_digest(file, "git").removeprefix("git:")
        if suffix.startswith(".data"):
            one["bytes"] = file.stat().st_size
    monkeypatch.setattr(registry, "read_registry", lambda: known)
    return one


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving() as found:
        monkeypatch.setenv("GVTNETS_MIRROR", found.url)
        yield found


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("GVTNETS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def released(server, cache, monkeypatch, tmp_path):
    """A network so small that it is fetched in no time, under a published name."""
    monkeypatch.setitem(PRESETS, "denoising", replace(PRESETS["denoising"], config=SMALL))
    model = GVTNet(**SMALL)
    model.build((None,) * 4 + (1,))
    set_weights(model)
    # Names that are none of the published ones stay as they are.
    variables = {n: np.asarray(w) for n, w in named_weights(model).items()}
    return publish(server, monkeypatch, tmp_path / "release", NAME, variables), model


def quietly(**options):
    return fetch(NAME, progress=False, **options)


LOCK = f".{NAME}.lock"  # stays: to remove it would free whoever waits for it


def left(folder):
    return sorted(p.name for p in folder.iterdir() if p.name != LOCK)


def data_file(released):
    return f"/{released[0]['path']}.data-00000-of-00001"


@pytest.mark.parametrize(
    "name", ["label_free_dna", NAME, pytest.param("projection_flywing", marks=pytest.mark.slow)]
)
def test_a_fetched_network_predicts_as_published(
    server, cache, monkeypatch, tmp_path, parity, name
):
    published, task = Parity(parity), registry.read_entry(name)["preset"]
    publish(server, monkeypatch, tmp_path / "release", name, published.variables(task))
    fetch(name, progress=False)
    predictor, answers = load(name), published.answers(task)
    for x, expected in zip(answers["x"], answers.get("output", answers.get("output_inference"))):
        y = np.asarray(predictor.model(x[None]))[0, ..., :1]
        np.testing.assert_allclose(y, expected, rtol=0, atol=1e-5)
    assert predictor.card.voxel_size == registry.read_entry(name)["voxel_size_um"]


def test_a_name_is_fetched_once_and_loads_without_the_web(
    released, server, cache, capsys, noise, monkeypatch
):
    one, model = released
    cli.main(["zoo", "fetch", NAME])
    shown = capsys.readouterr()
    assert shown.out == f"{cache / NAME}\n"
    assert f"gvtnets: license of {NAME}: GPL-3.0" in shown.err
    assert left(cache) == [NAME]
    assert left(cache / NAME) == [".gvtnets", "model.json", "sha256.json", "weights.h5"]
    assert server.asked == list(server.files)

    monkeypatch.setenv("GVTNETS_MIRROR", "http://127.0.0.1:9")
    cli.main(["zoo", "fetch", NAME])
    predictor = load(NAME)
    assert len(server.asked) == 2
    x = noise(1, 4, 8, 8, 1)
    np.testing.assert_array_equal(predictor.model(x), model(x))
    card = predictor.card
    assert (card.input_normalizer.kind, card.denormalize, card.axes) == (
        "percentile",
        "input",
        "ZYX",
    )
    assert (card.input_channels, card.output_channels) == (
        ("noisy fluorescence",), ("denoised fluorescence",),
    )  # fmt: skip
    assert card.license.startswith("GPL-3.0")
    assert card.provenance == (
        f"converted from the TensorFlow-1 checkpoint of divelab/GVTNets @ 66e1007, "
        f"{one['path']}, git blob {one['git']['.data-00000-of-00001']}"
    )


def test_what_was_not_fetched_says_how(cache, tmp_path, capsys):
    with pytest.raises(FileNotFoundError) as error:
        load("label_free_dna")
    assert str(error.value) == (
        f"'label_free_dna' is not on this machine yet ({cache / 'label_free_dna'}): fetch it once "
        f"with `gvtnets zoo fetch label_free_dna`. License: GPL-3.0 (released checkpoints of "
        f"divelab/GVTNets)."
    )
    np.save(tmp_path / "x.npy", np.zeros((4, 8, 8), "float32"))
    line = f"predict {tmp_path}/x.npy --model label_free_dna --out {tmp_path}/o.tif --axes ZYX"
    with pytest.raises(SystemExit):
        cli.main(line.split())
    assert "`gvtnets zoo fetch label_free_dna`" in capsys.readouterr().err


def test_a_shipped_name_needs_no_fetching(cache):
    assert (fetch("simulated_denoiser") / "weights.h5").is_file()
    assert not cache.exists()


def test_another_folder_can_be_the_cache(released, cache, tmp_path, capsys):
    cli.main(["zoo", "fetch", NAME, "--cache", str(tmp_path / "other")])
    assert capsys.readouterr().out == f"{tmp_path / 'other' / NAME}\n"
    assert not cache.exists()
    load(tmp_path / "other" / NAME)


def test_force_fetches_again(released, server, cache):
    quietly()
    quietly(force=True)
    assert len(server.asked) == 4
    assert left(cache) == [NAME]


# What is not as it was left.


def flip(file):
    spoiled = bytearray(file.read_bytes())
    spoiled[len(spoiled) // 2] ^= 1
    file.write_bytes(bytes(spoiled))


@pytest.mark.parametrize(
    "spoil, fault",
    [
        (lambda f: flip(f / "weights.h5"), "weights.h5 has another SHA-256 than sha256.json says"),
        (lambda f: flip(f / "model.json"), "model.json has another SHA-256 than sha256.json says"),
        (lambda f: (f / "weights.h5").unlink(), "it has no weights.h5"),
        (lambda f: (f / "sha256.json").unlink(), "it has no sha256.json"),
        (lambda f: (f / "sha256.json").write_text("{"), "sha256.json is not JSON"),
        (lambda f: (f / "sha256.json").write_bytes(b"\xff"), "sha256.json is not JSON"),
        (lambda f: (f / "sha256.json").write_text("[1]"), "model.json has another SHA-256"),
        (
            lambda f: (f / "sha256.json").write_text(" " * 2**15),
            "sha256.json is larger than 16384 bytes",
        ),
    ],
)
def test_a_tampered_folder_is_refused_and_fetching_mends_it(released, cache, spoil, fault):
    quietly()
    spoil(cache / NAME)
    with pytest.raises(ValueError) as error:
        load(NAME)
    assert str(error.value).startswith(f"{cache / NAME} is not as it was fetched: {fault}")
    assert str(error.value).endswith(f"Fetch it again with `gvtnets zoo fetch {NAME}`.")
    assert quietly() == cache / NAME
    assert zoo_cache.find_fault(cache / NAME) == ""
    assert left(cache) == [NAME]


def test_a_file_where_the_folder_should_be_is_kept(released, cache):
    cache.mkdir()
    (cache / NAME).write_text("what is this?")
    with pytest.raises(
        FileExistsError, match=rf"{NAME} was not written by gvtnets_tf, and --force"
    ):
        quietly()
    assert (cache / NAME).read_text() == "what is this?"
    (cache / NAME).unlink()
    quietly()
    load(NAME)


# What goes wrong on the way.


def refused(error, message, cache):
    with pytest.raises(error) as found:
        quietly()
    assert message in str(found.value)
    assert "\n" not in str(found.value)
    assert (left(cache) if cache.exists() else []) == []


def test_what_was_changed_on_the_way_is_refused(released, server, cache):
    whole = server.files[data_file(released)]
    spoiled = bytearray(whole)
    spoiled[100] ^= 1
    server.files[data_file(released)] = bytes(spoiled)
    blob = released[0]["git"][".data-00000-of-00001"]
    refused(ValueError, f", not git:{blob}. Nothing was kept.", cache)
    server.files[data_file(released)] = whole + b"more"
    refused(ValueError, f"it has more than {len(whole)} bytes, which are not read", cache)
    server.files[data_file(released)] = whole
    quietly()
    assert left(cache) == [NAME]


def test_a_large_index_is_not_read(released, server, cache):
    server.files[f"/{released[0]['path']}.index"] = bytes(2**20 + 1)
    refused(ValueError, "it has more than 1048576 bytes, which are not read", cache)


def test_a_fetch_that_breaks_off_leaves_nothing(released, server, cache):
    server.cut = 1000
    refused(ConnectionError, "broke off before its end (IncompleteRead(1000 bytes read", cache)
    server.cut = None
    quietly()
    assert left(cache) == [NAME]
    load(NAME)


def test_a_server_without_the_files_is_told(released, server, cache):
    server.files.clear()
    message = f"There is no file at {server.url}/{released[0]['path']}.index (the server said 404)"
    refused(FileNotFoundError, message, cache)


def test_no_server_is_told(released, cache, monkeypatch, capsys):
    with serving() as gone:
        pass
    monkeypatch.setenv("GVTNETS_MIRROR", gone.url)
    refused(ConnectionError, "cannot be reached", cache)
    with pytest.raises(SystemExit) as stopped:
        cli.main(["zoo", "fetch", NAME])
    assert stopped.value.code == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(f"gvtnets: {gone.url}/{released[0]['path']}.index cannot be reached")


def test_a_server_that_falls_silent_is_told(released, server, cache, monkeypatch):
    def impatient(*args, **options):
        return real(*args, **options, timeout=0.2)

    real = download.fetch
    monkeypatch.setattr(fetching.download, "fetch", impatient)
    server.silent = 500
    refused(TimeoutError, "sent nothing for 0.2 s. Check the network", cache)


def test_only_the_web_can_be_a_mirror(released, cache, monkeypatch, tmp_path):
    monkeypatch.setenv("GVTNETS_MIRROR", f"file://{tmp_path}")
    refused(ValueError, "Only http:// and https:// are fetched", cache)


def test_a_checkpoint_of_another_network_is_named_and_not_kept(
    server, cache, monkeypatch, tmp_path
):
    monkeypatch.setitem(PRESETS, "denoising", replace(PRESETS["denoising"], config=SMALL))
    publish(server, monkeypatch, tmp_path / "r", NAME, {"a/kernel": np.zeros(3, "float32")})
    refused(ValueError, "does not fit: ", cache)


def test_a_cache_that_is_closed_is_told(released, server, cache, monkeypatch):
    cache.parent.mkdir(exist_ok=True)
    cache.write_text("a file")
    with pytest.raises(PermissionError, match="cache is not a folder that you may write into"):
        quietly()
    cache.unlink()
    quietly()
    monkeypatch.setattr("os.access", lambda *args: False)
    quietly()  # what is there needs no writing
    with pytest.raises(PermissionError, match="you may write into"):
        quietly(force=True)
    assert len(server.asked) == 2


@pytest.mark.parametrize("step", ["convert_tf1", "write_digests"])
def test_a_cache_that_is_full_is_told(released, cache, monkeypatch, step):
    def full(*args, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        if step == "write_digests":
            patch.setattr(fetching, "write_digests", full)
        else:
            patch.setattr("gvtnets_tf.zoo.model_folder.save_model", full)
        message = "No space left on device. Nothing was kept."
        refused(OSError, message, cache)
    quietly()
    assert left(cache) == [NAME]


def test_threads_that_fetch_at_once_wait_and_say_so(released, server, cache, caplog):
    caplog.set_level("INFO", logger="gvtnets_tf")
    server.gate.clear()
    found, fetched = [], lambda: found.append(quietly())
    threads = [threading.Thread(target=fetched) for _ in range(3)]
    for thread in threads:
        thread.start()
    wait_for(lambda: server.asked and len(caplog.messages) == 2)
    server.gate.set()
    for thread in threads:
        thread.join()
    assert found == [cache / NAME] * 3
    assert len(server.asked) == 2
    assert set(caplog.messages) == {f"waiting for another process that fetches {cache / NAME}"}
    assert left(cache) == [NAME]
    load(NAME)


def test_a_disk_without_locks_will_do(released, cache, monkeypatch, caplog):
    def no_locks(*args):
        raise OSError(errno.ENOLCK, "No locks available")

    caplog.set_level("INFO", logger="gvtnets_tf")
    monkeypatch.setattr("fcntl.flock", no_locks)
    assert quietly() == cache / NAME
    assert left(cache) == [NAME]
    assert "No locks available): fetch it by one process at a time" in caplog.text


def wait_for(condition):
    for _ in range(2000):
        if condition():
            return
        time.sleep(0.01)
    pytest.fail("nothing happened for twenty seconds")


# Downloads and locks as always; what comes of the files is made without a network library.
PROCESS = """
import json, sys
from gvtnets_tf.zoo import fetching, registry

def convert(prefix, out, entry):
    out.mkdir()
    for name in ("model.json", "weights.h5"):
        (out / name).write_bytes(prefix.with_name(prefix.name + ".index").read_bytes())

registry.read_registry = lambda: json.loads(sys.argv[1])
fetching._convert = convert
print("ready", flush=True)
fetching.fetch(sys.argv[2], progress=False)
"""


@pytest.fixture
def process(released):
    """Start processes that fetch; each is ready to begin."""
    words = [sys.executable, "-c", PROCESS, json.dumps({NAME: released[0]}), NAME]
    started = []

    def start():
        one = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        started.append(one)
        assert one.stdout.readline() == "ready\n"
        return one

    yield start
    for one in started:
        one.kill()
        one.wait()
        one.stdout.close()


def test_two_processes_fetch_once(process, server, cache):
    server.gate.clear()
    both = [process(), process()]
    wait_for(lambda: server.asked)
    time.sleep(0.5)  # for the other one to come that far
    server.gate.set()
    assert [one.wait() for one in both] == [0, 0]
    assert server.asked == list(server.files)
    assert left(cache) == [NAME]


def test_a_killed_process_stops_nobody_and_leaves_nothing(process, server, cache):
    server.silent = 20
    killed = process()
    scratch = cache / f".{NAME}.download"
    wait_for(lambda: scratch.is_dir() and list(scratch.iterdir()))
    killed.kill()
    killed.wait()
    server.silent = None
    assert process().wait() == 0
    assert left(cache) == [NAME]


# Where the cache is.


@pytest.mark.skipif(sys.platform != "linux", reason="places of another system")
@pytest.mark.parametrize(
    "variables, place",
    [
        ({"GVTNETS_CACHE": "/a/b", "XDG_CACHE_HOME": "/x"}, "/a/b"),
        ({"GVTNETS_CACHE": "~/b"}, "HOME/b"),
        ({"XDG_CACHE_HOME": "/x"}, "/x/gvtnets_tf"),
        ({}, "HOME/.cache/gvtnets_tf"),
    ],
)
def test_the_cache_is_where_the_system_has_such(monkeypatch, tmp_path, variables, place):
    for name in ("GVTNETS_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert str(zoo_cache.cache_folder()) == place.replace("HOME", str(tmp_path))


def test_digests_are_those_of_the_files(released, cache):
    folder = quietly()
    digests = json.loads((folder / "sha256.json").read_text())
    assert digests == {name: download.compute_digest(folder / name) for name in zoo_cache.FILES}


def test_a_folder_of_someone_else_in_the_place_of_a_model_is_kept(released, server, cache):
    (cache / NAME).mkdir(parents=True)
    (cache / NAME / "thesis.tex").write_text("years of work")
    text = rf"{NAME} was not written by gvtnets_tf, and --force"
    for force in (False, True):
        with pytest.raises(FileExistsError, match=text):
            quietly(force=force)
    assert (left(cache / NAME), server.asked) == (["thesis.tex"], [])
