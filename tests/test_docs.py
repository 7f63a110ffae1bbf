"""The reference has an entry for every public name."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STUBS = sorted((ROOT / "gvtnets_tf").rglob("__init__.pyi"))
# A name or a module that is offered: `from .readers import read as read`.
OFFER = re.compile(r"^from \.([\w.]*) import (\w+) as \w+$", re.MULTILINE)
ENTRY = re.compile(r"^::: (\S+)$", re.MULTILINE)
ENTRIES = {
    entry
    for page in (ROOT / "docs" / "reference").glob("*.md")
    for entry in ENTRY.findall(page.read_text(encoding="utf-8"))
}


def public_names():
    """Every name of every stub, as `(path in the public, path of the definition)`."""
    for stub in STUBS:
        room = ".".join(stub.parent.relative_to(ROOT).parts)
        for module, name in OFFER.findall(stub.read_text(encoding="utf-8")):
            yield f"{room}.{name}", ".".join(filter(None, (room, module, name)))


def has_entry(path):
    """Tell whether a name has an entry; of a module, all of it or something in it."""
    home = ROOT.joinpath(*path.split("."))
    module = home.is_dir() or home.with_suffix(".py").is_file()
    return path in ENTRIES or (module and any(e.startswith(f"{path}.") for e in ENTRIES))


NAMES = sorted(set(public_names()))
# The names at the top are those of the rooms.
ROOMS = {definition: public for public, definition in NAMES if public.count(".") > 1}


@pytest.mark.parametrize("public, definition", NAMES, ids=[public for public, _ in NAMES])
def test_a_public_name_is_in_the_reference(public, definition):
    paths = {public, definition, ROOMS.get(definition, definition)}
    assert any(map(has_entry, paths)), f"add `::: {public}` to a page of docs/reference"


def test_the_stubs_are_read_whole():
    lines = [line for stub in STUBS for line in stub.read_text().splitlines() if "import" in line]
    assert len(lines) == len([name for stub in STUBS for name in OFFER.findall(stub.read_text())])
    assert len(STUBS) > 9


@pytest.mark.parametrize("entry", sorted(ENTRIES))
def test_an_entry_of_the_reference_names_something(entry):
    parts = entry.split(".")
    modules = [ROOT.joinpath(*parts[:n]) for n in range(len(parts), 0, -1)]
    home = next(path for path in modules if path.is_dir() or path.with_suffix(".py").is_file())
    rest = parts[len(home.relative_to(ROOT).parts) :]
    stub, module = home / "__init__.pyi", home.with_suffix(".py")
    text = (stub if home.is_dir() else module).read_text(encoding="utf-8")
    for name in rest:
        assert re.search(rf"(?:^|\s)(?:def|class|as) {name}\b|^{name} = ", text, re.MULTILINE)
