"""The house, as `docs/architecture.md` draws it, held against what the modules import."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1] / "gvtnets_tf"
NETWORKS, IMAGES, ROOF = "networks", "images", "roof"
GROUND = "ground"

# Floor and tower of every module; `name.*` stands for a whole sub-package.
FLOORS = {
    "axes": (0, GROUND),
    "checks": (0, GROUND),
    "files": (0, GROUND),
    "download": (0, GROUND),
    "layers.*": (1, NETWORKS),
    "losses": (2, NETWORKS),
    "models": (2, NETWORKS),
    "models.base": (2, NETWORKS),
    "models.unet": (2, NETWORKS),
    "models.fnet": (3, NETWORKS),
    "models.gpt": (3, NETWORKS),
    "models.gvtnets": (3, NETWORKS),
    "models.projection": (3, NETWORKS),
    "models.presets": (4, NETWORKS),
    "data.*": (1, IMAGES),
    "metrics": (1, IMAGES),
    "statistics": (1, IMAGES),
    "prediction": (1, IMAGES),
    "prediction.tiles": (1, IMAGES),
    "data.pipeline": (2, IMAGES),
    "prediction.memory": (2, IMAGES),
    "card": (2, IMAGES),
    "plots": (3, IMAGES),
    "prediction.parts": (2, IMAGES),
    "prediction.stitching": (2, IMAGES),
    "prediction.fitting": (3, IMAGES),
    "prediction.jobs": (3, IMAGES),
    "prediction.series": (3, IMAGES),
    "samples": (3, IMAGES),
    "prediction.predictor": (4, IMAGES),
    "prediction.flips": (5, IMAGES),
    "evaluation.cases": (4, IMAGES),
    "evaluation.figures": (4, IMAGES),
    "evaluation.report": (4, IMAGES),
    "evaluation.stained": (5, IMAGES),
    "evaluation.staining": (6, IMAGES),
    "evaluation": (7, IMAGES),
    "recipe": (5, ROOF),
    "folder": (5, ROOF),
    "callbacks": (6, ROOF),
    "exporting.leaflet": (6, ROOF),
    "exporting.bioimageio": (7, ROOF),
    "exporting.graphs": (7, ROOF),
    "exporting.litert": (7, ROOF),
    "exporting.serving": (7, ROOF),
    "training": (7, ROOF),
    "zoo": (7, ROOF),
    "zoo.*": (6, ROOF),
    "prediction.files": (8, ROOF),
    "prediction.many": (8, ROOF),
    "study": (8, ROOF),
    "demonstration": (8, ROOF),
    "exporting": (8, ROOF),
    "cli.*": (9, ROOF),
    # The public face names everything, and loads nothing before it is touched.
    "": (10, ROOF),
}
# Modules of one floor that lean on each other; each pair of (package, floor) is a room.
ROOMS = {("layers", 1), ("models", 2), ("models", 3), ("data", 1), ("zoo", 6), ("cli", 9)}
# The only modules that may name TensorFlow; the networks run on any backend of Keras.
TENSORFLOW = {
    "callbacks",
    "data.pipeline",
    "exporting.graphs",
    "exporting.litert",
    "exporting.serving",
    "prediction.memory",
    "training",
    "zoo.convert",
}


def modules():
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


MODULES = dict(modules())
TREES = {name: ast.parse(path.read_text()) for name, path in MODULES.items()}


def place(name):
    """Floor and tower of a module."""
    package = name.split(".")[0]
    found = FLOORS.get(name) or FLOORS.get(f"{package}.*")
    assert found, f"{name} has no floor: add it to docs/architecture.md and to this test"
    return found


def imported(tree):
    """Full names of all that a module imports, also inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide what they name"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                own = full.removeprefix("gvtnets_tf.")
                yield full if own in MODULES or node.module == "gvtnets_tf" else node.module


def edges():
    for name, tree in TREES.items():
        for target in imported(tree):
            if target == "gvtnets_tf.__version__":
                continue
            if target == "gvtnets_tf" or target.startswith("gvtnets_tf."):
                yield name, target.removeprefix("gvtnets_tf").lstrip(".")


EDGES = sorted(set(edges()))


def is_shelf(name):
    """Whether `name` is the face of a sub-package, which only lists what it offers."""
    return MODULES[name].name == "__init__.py"


@pytest.mark.parametrize("name, target", EDGES, ids=[f"{a or 'face'}-{b}" for a, b in EDGES])
def test_a_module_imports_lower_floors_only(name, target):
    assert target in MODULES, f"{name} imports {target}, which is not a module"
    (floor, tower), (below, other) = place(name), place(target)
    package = name.split(".")[0]
    same_room = package == target.split(".")[0] and (package, floor) in ROOMS
    assert below < floor or (below == floor and same_room), f"{name} must not see {target}"
    if tower in (NETWORKS, IMAGES):
        assert other in (tower, GROUND), f"{name} must not see {target}, of the other tower"


def test_no_module_imports_itself_by_way_of_others():
    seen, path = set(), []

    def walk(name):
        assert name not in path, f"import circle: {' -> '.join([*path, name])}"
        if name not in seen:
            path.append(name)
            for target in (b for a, b in EDGES if a == name and b != name):
                walk(target)
            seen.add(path.pop())

    for name in MODULES:
        if not is_shelf(name):
            walk(name)


@pytest.mark.parametrize("name", MODULES)
def test_every_module_has_a_floor_and_a_docstring(name):
    place(name)
    empty = not MODULES[name].read_text().strip()
    assert empty or ast.get_docstring(TREES[name])


def test_every_floor_has_a_module_of_that_name():
    assert {name for name in FLOORS if name.removesuffix(".*") not in MODULES} == set()


@pytest.mark.parametrize("name", MODULES)
def test_tensorflow_is_named_where_it_may_be(name):
    heavy = {target.split(".")[0] for target in imported(TREES[name])}
    if name not in TENSORFLOW:
        assert "tensorflow" not in heavy
    if place(name)[1] == GROUND or (name.startswith("data.") and name != "data.pipeline"):
        assert not heavy & {"keras", "tensorflow"}


@pytest.mark.parametrize("name", MODULES)
def test_what_is_unsafe_or_hidden_is_not_used(name):
    tree = TREES[name]
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    names |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    names |= {part for target in imported(tree) for part in target.split(".")}
    assert not names & {"pickle", "load_model", "Lambda", "eval", "exec", "unsafe_load"}
    # `python -O` would drop it.
    assert not any(isinstance(node, ast.Assert) for node in ast.walk(tree))
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        given = {k.arg: getattr(k.value, "value", None) for k in call.keywords}
        assert not given.get("allow_pickle")
        assert given.get("weights_only", True) is True
