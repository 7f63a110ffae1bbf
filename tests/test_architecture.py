"""The layout that `docs/architecture.md` draws, held against what the modules import."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1] / "gvtnets_tf"

# From the ground up, one row per floor. A room imports rooms on lower floors only; the
# rooms of one floor do not see each other.
FLOORS = (
    ("checks", "atomic_files"),
    ("download", "images", "layers"),
    ("data", "models"),
    ("evaluation", "zoo"),
    ("prediction",),
    ("training", "exporting"),
    ("studies",),
    ("cli",),
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
# The networks know nothing of files; `checks` is all they share with the images.
NETWORKS, IMAGES = ("layers", "models"), ("images", "data")
# The only modules that may name TensorFlow; the networks run on any backend of Keras.
TENSORFLOW = {
    "data.pipeline",
    "exporting.litert",
    "exporting.saved_model",
    "exporting.tf_graph",
    "prediction.engines.keras",
    "prediction.memory",
    "training.fitting",
    "zoo.conversion",
}


def modules():
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


MODULES = dict(modules())
TREES = {name: ast.parse(path.read_text()) for name, path in MODULES.items()}


def room(name):
    return name.partition(".")[0]


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
            if target != "gvtnets_tf.__version__" and target.partition(".")[0] == "gvtnets_tf":
                yield name, target.removeprefix("gvtnets_tf").lstrip(".")


EDGES = sorted(set(edges()))
BETWEEN = sorted({(room(a), room(b)) for a, b in EDGES if room(a) != room(b)} - {("", "")})


@pytest.mark.parametrize("name, target", BETWEEN, ids=[f"{a or 'face'}-{b}" for a, b in BETWEEN])
def test_a_room_imports_rooms_on_lower_floors_only(name, target):
    assert target in FLOOR, f"{target or 'the public face'} is not a room to import from"
    if name:  # the public face names everything, and loads nothing before it is touched
        assert FLOOR[target] < FLOOR[name], f"{name} must not see {target}"
    if name in NETWORKS:
        assert target not in IMAGES, f"{name} must not see {target}"


def test_every_room_has_a_floor():
    assert {room(name) for name in MODULES} == {*FLOOR, ""}


def test_no_module_imports_itself_by_way_of_others():
    seen, path = set(), []

    def walk(name):
        assert name not in path, f"import circle: {' -> '.join([*path, name])}"
        if name not in seen:
            path.append(name)
            for target in (b for a, b in EDGES if a == name and b != name):
                walk(target)
            seen.add(path.pop())

    for name, file in MODULES.items():
        if file.name != "__init__.py":
            walk(name)


@pytest.mark.parametrize("name", MODULES)
def test_every_module_has_a_docstring(name):
    empty = not MODULES[name].read_text().strip()
    assert empty or ast.get_docstring(TREES[name])


@pytest.mark.parametrize("name", MODULES)
def test_tensorflow_is_named_where_it_may_be(name):
    heavy = {target.split(".")[0] for target in imported(TREES[name])}
    if name not in TENSORFLOW:
        assert "tensorflow" not in heavy
    if (
        room(name) in ("images", "data", "checks", "atomic_files", "import_hooks")
        and name != "data.pipeline"
    ):
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
