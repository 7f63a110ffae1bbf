"""What the README and the guide print, run as printed."""

import re
import shlex
from pathlib import Path
from textwrap import dedent

import pytest
from small import fast_training

from gvtnets_tf.cli import main as cli
from gvtnets_tf.models.presets import PRESETS

ROOT = Path(__file__).parents[1]
GUIDE = sorted(p for p in (ROOT / "docs").glob("*.md") if p.stem not in ("results", "performance"))
# A block may stand in a tab of the page, indented.
BLOCK = re.compile(r"^( *)```(\w+)[^\n]*\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


def blocks(page, *languages):
    """The fenced blocks of a page, as pairs of language and text."""
    found = BLOCK.findall(page.read_text(encoding="utf-8"))
    return [(language, dedent(text)) for _, language, text in found if language in languages]


def commands(page):
    """The `gvtnets` commands of a page, as lists of words; a `\\` continues a line."""
    texts = [text.replace("\\\n", " ") for _, text in blocks(page, "shell")]
    lines = [line for text in texts for line in text.splitlines()]
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("gvtnets ")]


def follow(page):
    """Run the Python of a page in order; a recipe in YAML is written where its comment says."""
    names = {}
    for language, text in blocks(page, "python", "yaml"):
        if language == "python":
            exec(compile(text, page.name, "exec"), names)
        elif file := re.match(r"# (\S+\.yaml)\n", text):
            Path(file[1]).write_text(text, encoding="utf-8")
    return names


@pytest.fixture(scope="module")
def readme(tmp_path_factory):
    """The README followed once, in a folder of its own."""
    with pytest.MonkeyPatch.context() as patch:
        fast_training(patch, 300.0)
        config = PRESETS["gpt_virtual_staining"].config
        for name in ("encoder_depths", "decoder_depths"):
            patch.setitem(config, name, (1, 1, 1))  # 30 dense blocks take seconds
        patch.setitem(config, "bottom_depth", 1)
        patch.chdir(folder := tmp_path_factory.mktemp("readme"))
        follow(ROOT / "README.md")
    return folder


def test_the_python_of_the_readme_runs_and_leaves_what_it_says(readme):
    for name in ("denoising/restored/4", "label_free/predicted/0", "fields_predicted/4"):
        assert (readme / f"{name}.tif").is_file()


def test_the_cheap_commands_of_the_readme_run(readme, monkeypatch, capfd):
    monkeypatch.chdir(readme)
    cheap = [words for words in commands(ROOT / "README.md") if words[0] not in ("train", "demo")]
    assert {w[0] for w in cheap} == {"check-pairs", "predict", "evaluate", "zoo", "export"}
    for words in cheap:
        cli.main(words)
    printed = capfd.readouterr().out
    assert "5 pairs, 0 findings" in printed
    assert "channel nuclei" in printed
    assert (readme / "uncertainty" / "value.tif").is_file()
    scores = {path.name for path in (readme / "scores").iterdir()}
    tables = {".gvtnets", "metrics.csv", "summary.json", "box.png"}
    assert scores == {*tables, *(f"{i}.png" for i in range(5))}


def test_the_training_commands_of_the_readme_open_their_data(readme, monkeypatch):
    from gvtnets_tf.training.preparation import open_splits
    from gvtnets_tf.training.recipe import Recipe

    monkeypatch.chdir(readme)
    found = [cli.parser().parse_args(w) for w in commands(ROOT / "README.md") if w[0] == "train"]
    assert len(found) == 4
    for args in found:
        data = {"inputs": args.inputs, "targets": args.targets}
        given = {"preset": args.preset, "patch_size": args.patch_size, "data": data}
        recipe = Recipe.load(args.recipe) if args.recipe else Recipe.parse(given)
        training, validation = open_splits(recipe)
        assert training and validation


@pytest.mark.parametrize("page", [ROOT / "README.md", *GUIDE], ids=lambda page: page.stem)
def test_every_command_of_the_guide_has_words_that_exist(page):
    for words in commands(page):
        cli.parser().parse_args(words)


def with_python():
    """The pages with Python; those that train or export are slow."""
    for page in GUIDE:
        text = "".join(code for _, code in blocks(page, "python"))
        if text:
            costly = any(call in text for call in ("train(", ".fit(", "export("))
            marks = [pytest.mark.slow] if costly else []
            yield pytest.param(page, id=page.stem, marks=marks)


@pytest.mark.parametrize("page", list(with_python()))
def test_the_python_of_the_guide_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    follow(page)


@pytest.mark.parametrize("page", [ROOT / "README.md", *GUIDE], ids=lambda page: page.stem)
def test_every_link_of_the_guide_leads_somewhere(page):
    links = re.findall(r"\]\(([^)#\s]+)", BLOCK.sub("", page.read_text(encoding="utf-8")))
    for link in [x for x in links if not x.startswith("http")]:
        assert (page.parent / link).exists(), link
