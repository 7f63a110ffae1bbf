"""The registry is data, and agrees with the networks and the tables that it speaks of."""

import json
import re
import subprocess
import sys

import pytest

from gvtnets_tf.cli import main as cli
from gvtnets_tf.models.presets import PRESETS
from gvtnets_tf.zoo import registry
from gvtnets_tf.zoo.weight_names import LICENSES, VOXEL_SIZE

KNOWN = registry.read_registry()
PUBLISHED = {name: one for name, one in KNOWN.items() if one["where"] == "download"}
WORDS = {"task", "where", "preset", "axes", "output_axes", "normalize", "voxel_size_um"}
WORDS |= {"input", "output", "trained_on", "license"}


@pytest.mark.parametrize("name", KNOWN)
def test_every_name_says_what_a_stranger_needs(name):
    one = KNOWN[name]
    assert one.keys() >= WORDS
    assert one["where"] in ("shipped", "download")
    assert re.fullmatch("[a-z0-9_]+", name)
    for key in ("input", "output"):
        assert isinstance(one[key], list)
        assert one[key]


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_names_agree_with_the_preset_that_they_are(name):
    one, preset = PUBLISHED[name], PRESETS[PUBLISHED[name]["preset"]]
    assert (one["axes"], one["output_axes"]) == (preset.axes, preset.output_axes)
    assert one["normalize"] == preset.published["normalize"]
    assert one["voxel_size_um"] == VOXEL_SIZE.get(one["preset"], {})
    assert one["license"] == LICENSES["tf1"]
    assert one["path"].endswith("_pretrained/model.ckpt-pretrained")
    assert one["source"] == f"{one['url']}/{one['path']}.*"
    assert one["url"].startswith("https://github.com/divelab/GVTNets/raw/66e1007")


def test_sixteen_networks_were_published_and_no_two_have_a_file_in_common():
    assert len(PUBLISHED) == 16
    assert sum(name.startswith("label_free_") for name in PUBLISHED) == 13
    assert len({one["path"] for one in PUBLISHED.values()}) == 16
    blobs = [blob for one in PUBLISHED.values() for blob in one["git"].values()]
    assert len(set(blobs)) == 32
    assert all(re.fullmatch("[0-9a-f]{40}", blob) for blob in blobs)


def test_sizes_and_ids_are_those_of_the_released_files(parity):
    listed = json.loads((parity / "published_checkpoints.json").read_text())
    by_path = {one["path"]: one for one in PUBLISHED.values()}
    assert by_path.keys() == {one["prefix"] for one in listed["checkpoints"].values()}
    for released in listed["checkpoints"].values():
        one = by_path[released["prefix"]]
        assert (one["preset"], one["bytes"]) == (released["task"], released["data_bytes"])
        for suffix, blob in one["git"].items():
            assert released["files"][suffix]["git_blob"] == blob
        assert one["url"].endswith(listed["commit"])


def test_list_is_a_line_for_each_name(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("GVTNETS_CACHE", str(tmp_path))
    (tmp_path / "label_free_dna").mkdir()
    cli.main(["zoo", "list"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(KNOWN)
    found = {line.split()[0]: re.split(" {2,}", line)[1:] for line in lines}
    assert found["simulated_denoiser"] == ["denoising", "shipped", "BSD-3-Clause"]
    assert found["label_free_dna"] == ["label-free staining", "cached", LICENSES["tf1"]]
    assert found["projection_flywing"] == ["projection", "download", LICENSES["tf1"]]
    cli.main(["zoo", "list", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert {name: one["state"] for name, one in told.items()} == {n: found[n][1] for n in told}


def test_show_is_the_card_of_a_name(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("GVTNETS_CACHE", str(tmp_path))
    cli.main(["zoo", "show", "label_free_dna"])
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "label_free_dna"
    assert "weights: download" in shown
    assert "license: GPL-3.0 (released checkpoints of divelab/GVTNets)" in shown
    assert "voxel size (micrometers): Y 0.29, X 0.29" in shown
    assert "normalization: input zscore, target zscore, denormalize none" in shown
    assert any(line.startswith("source: https://github.com/divelab/GVTNets/raw/") for line in shown)
    cli.main(["zoo", "show", "simulated_denoiser"])
    assert "scores: r 0.99, psnr 28.35" in capsys.readouterr().out
    cli.main(["zoo", "show", "label_free_dna", "--json"])
    expected = {**KNOWN["label_free_dna"], "state": "download"}
    assert json.loads(capsys.readouterr().out) == expected


@pytest.mark.parametrize("action", ["show", "fetch"])
@pytest.mark.parametrize(
    "name, near",
    [
        ("label_free_dn", "Did you mean 'label_free_dna'? "),
        ("dna", "Did you mean 'label_free_dna'? "),
        ("?", ""),
        ("", ""),
    ],
)
def test_an_unknown_name_leads_to_the_nearest(capsys, action, name, near):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["zoo", action, name])
    assert stopped.value.code == 2
    assert capsys.readouterr().err == (
        f"gvtnets: {name!r} is neither a model folder nor a name in the zoo. {near}"
        f"`gvtnets zoo list` shows all names.\n"
    )


def test_an_action_must_be_named(capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["zoo"])
    assert stopped.value.code == 2
    assert "the following arguments are required: ACTION" in capsys.readouterr().err


@pytest.mark.parametrize("line", [["--debug", "show", "none"], ["show", "none", "--debug"]])
def test_the_traceback_is_shown_wherever_it_is_asked_for(capsys, line):
    with pytest.raises(SystemExit):
        cli.main(["zoo", *line])
    assert "Traceback" in capsys.readouterr().err


def test_looking_at_the_zoo_costs_no_network_library():
    code = (
        "import sys; from gvtnets_tf.cli.main import main; main(['zoo', 'list']); "
        "main(['zoo', 'show', 'label_free_dna']); "
        "print([m for m in ('tensorflow', 'keras', 'numpy', 'h5py') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_card_says_only_what_is_known():
    assert registry.format_entry(
        "one", {"task": "denoising", "license": "", "output": ["a", "b"]}
    ) == ("one\ntask: denoising\noutput: a, b")
