"""What is installed is what is here, and importing it costs little."""

import ast
import configparser
import doctest
import importlib
import inspect
import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import gvtnets_tf

ROOT = Path(__file__).parents[1]
# What a module may import as it is imported: networks need Keras, images do not.
LIGHT = [
    "checks",
    "atomic_files",
    "import_hooks",
    "images",
    "data",
    "evaluation",
    "zoo.card",
    "cli",
]
OPTIONAL = ("zarr", "csbdeep", "skimage", "dask", "onnx", "torch", "safetensors")
HEAVY = ("tensorflow", "keras", "matplotlib", "tensorboard", *OPTIONAL)


def modules():
    """Dotted names of all modules of the package."""
    paths = (p.relative_to(ROOT).with_suffix("") for p in (ROOT / "gvtnets_tf").rglob("*.py"))
    return sorted(".".join(p.parts).removesuffix(".__init__") for p in paths)


def python(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def config():
    found = configparser.ConfigParser()
    found.read(ROOT / "setup.cfg")
    return found


def test_every_folder_with_python_files_is_a_package(config):
    there = {m for m in modules() if (ROOT / Path(*m.split("."))).is_dir()}
    listed = set(config["options"]["packages"].split())
    assert listed == there | {"gvtnets_tf.pretrained"}
    assert (ROOT / "pretrained" / "__init__.py").is_file()


def test_the_version_is_said_once(config):
    assert config["metadata"]["version"] == gvtnets_tf.__version__


def test_the_command_is_there_where_the_installer_looks_for_it(config):
    module, function = config["options.entry_points"]["console_scripts"].split("=")[1].split(":")
    assert (ROOT / f"{module.strip()}.py").is_file()
    assert config["options"]["py_modules"] == module.strip()
    tree = ast.parse((ROOT / f"{module.strip()}.py").read_text())
    assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    # Heavy imports come after the first line that listens to Ctrl-C.
    first = {a.name for node in tree.body if isinstance(node, ast.Import) for a in node.names}
    assert first == {"os", "signal"}


def locked():
    """What requirements.txt installs, from name to version, each with the hash of a file."""
    entry = re.compile(
        r"^([\w.-]+)==(\S+)(?: ;.*)? \\\n((?:    --hash=sha256:[0-9a-f]{64}.*\n)+)", re.M
    )
    text = (ROOT / "requirements.txt").read_text()
    assert entry.sub("", text).splitlines() == text.splitlines()[:1]  # no option, no index
    return {canonicalize_name(name): version for name, version, _ in entry.findall(text)}


def test_what_make_installs_is_what_the_package_asks_for(config):
    pinned = [Requirement(line) for line in (ROOT / "constraints.txt").read_text().splitlines()]
    pins = {canonicalize_name(pin.name): str(pin.specifier)[2:] for pin in pinned}
    assert locked().items() <= pins.items()
    extras = {k: v for k, v in config["options.extras_require"].items() if "torch" not in v}
    for text in (config["options"]["install_requires"], *extras.values()):
        for need in map(Requirement, text.strip().splitlines()):
            if need.name != "safetensors":
                assert locked()[canonicalize_name(need.name)] in need.specifier, need


def test_packages_that_break_between_versions_have_an_upper_bound(config):
    asked = "\n".join(
        [config["options"]["install_requires"], *config["options.extras_require"].values()]
    )
    for name in ("tensorflow", "keras", "tifffile", "tf2onnx", "tensorflow-serving-api"):
        assert re.search(rf"^{name} >=[\d.]+,<\d", asked, re.M), name


def public_names(stub):
    """Names that a stub gives a room, as `(room, name)`."""
    room = ".".join(stub.parent.relative_to(ROOT).parts)
    for line in stub.read_text().splitlines():
        if line.startswith("from "):
            module, name, alias = re.fullmatch(r"from (\S+) import (\w+) as (\w+)", line).groups()
            # Only with an alias is a name of a stub there for editors.
            assert (module[0], alias) == (".", name)
            yield room, name


STUBS = sorted((ROOT / "gvtnets_tf").rglob("*.pyi"))
PUBLIC = [pair for stub in STUBS for pair in public_names(stub)]


@pytest.mark.parametrize("room, name", PUBLIC, ids=[".".join(pair) for pair in PUBLIC])
def test_every_public_name_is_there_with_a_text(room, name):
    package = importlib.import_module(room)
    found = getattr(package, name)
    assert inspect.getdoc(found)
    assert name in package.__all__
    assert name in dir(package)
    # A name beside a module of the same name would be the one or the other.
    file = Path(package.__file__).parent / name
    assert inspect.ismodule(found) or not (file.is_dir() or file.with_suffix(".py").is_file())
    assert inspect.ismodule(found) or callable(found)


def public_objects():
    """What the stubs name, each once, and the classes and functions of their modules."""
    found = {}
    for room, name in PUBLIC:
        thing = getattr(importlib.import_module(room), name)
        if inspect.ismodule(thing):
            own = (v for v in vars(thing).values() if getattr(v, "__module__", 0) == thing.__name__)
            public = getattr(thing, "__all__", dir(thing))
            parts = [
                v for v in own if callable(v) and v.__name__ in public and v.__name__[0] != "_"
            ]
        else:
            parts = [thing]
        found |= {f"{part.__module__}.{part.__qualname__}": part for part in parts}
    return found


def test_the_examples_of_docstrings_run(subtests):
    # By hand: `python -m doctest FILE`.
    runner, finder = doctest.DocTestRunner(), doctest.DocTestFinder(exclude_empty=True)
    for name, thing in sorted(public_objects().items()):
        with subtests.test(name):
            tests = [test for test in finder.find(thing, name) if test.examples]
            assert tests, f"{name} has no example"
            for test in tests:
                text = []
                assert runner.run(test, out=text.append).failed == 0, "".join(text)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="No gvtnets_tf attribute GVTnet"):
        _ = gvtnets_tf.GVTnet


def test_a_star_import_gives_every_public_name_of_the_top():
    names = {}
    exec("from gvtnets_tf import *", names)
    assert names.keys() - {"__builtins__"} == {n for room, n in PUBLIC if room == "gvtnets_tf"}
    assert names["losses"].Laplace is gvtnets_tf.models.losses.Laplace
    assert names["metrics"].__name__ == "gvtnets_tf.evaluation.metrics"


def test_public_names_are_in_order_and_once():
    for stub in STUBS:
        names = [name for _, name in public_names(stub)]
        assert len(names) == len(set(names))
        lines = [line for line in stub.read_text().splitlines() if line.startswith("from ")]
        assert [line.split()[1] for line in lines] == sorted(line.split()[1] for line in lines)


def test_no_init_file_defines_a_function_or_a_class():
    for file in (ROOT / "gvtnets_tf").rglob("__init__.py"):
        kinds = {type(node) for node in ast.walk(ast.parse(file.read_text()))}
        assert not kinds & {ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda}, file


def test_modules_of_images_load_no_network_library():
    own = {m: m.removeprefix("gvtnets_tf.") for m in modules()}
    light = [m for m, name in own.items() if {name, name.partition(".")[0]} & set(LIGHT)]
    assert len(light) > 15
    code = (
        f"import importlib, json, sys\nfound = {{}}\nfor m in {light!r}:\n"
        f"    importlib.import_module(m)\n"
        f"    heavy = [h for h in {HEAVY!r} if h in sys.modules]\n"
        f"    if heavy: found[m] = heavy\n"
        f"print(json.dumps(found))"
    )
    assert json.loads(python(code)) == {}


def test_no_module_loads_an_optional_library():
    code = (
        f"import importlib, sys\nfor m in {modules()!r}: importlib.import_module(m)\n"
        f"print([m for m in {OPTIONAL!r} if m in sys.modules])"
    )
    assert python(code) == "[]\n"


def test_nothing_written_here_names_a_machine():
    # A shipped model folder says where its data lay: relative to itself, not on whose disk.
    for file in (ROOT / "pretrained").rglob("*"):
        if file.suffix in (".json", ".yaml", ".md", ".csv"):
            text = file.read_text()
            assert "/home/" not in text, file
            assert str(ROOT.parent) not in text, file


SHIPPED = """
import numpy as np, gvtnets_tf
from gvtnets_tf import load
from gvtnets_tf.zoo.cache import shipped_folder
from gvtnets_tf.zoo.registry import read_registry
print(gvtnets_tf.__file__)
for name, about in read_registry().items():
    if about["where"] == "shipped":
        stored = np.load(shipped_folder() / name / "expected.npz", allow_pickle=False)
        found, expected = load(name)(stored["input"]), stored["output"]
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.ptp(expected))
"""


@pytest.mark.slow
def test_the_wheel_holds_the_shipped_models_and_their_names(tmp_path):
    words = [
        sys.executable,
        "-m",
        "build",
        "--no-isolation",
        "--wheel",
        "--outdir",
        str(tmp_path),
        str(ROOT),
    ]
    subprocess.run(words, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())
    for name in json.loads((ROOT / "gvtnets_tf" / "zoo" / "registry.json").read_text()):
        for file in (ROOT / "pretrained" / name).iterdir():
            assert f"gvtnets_tf/pretrained/{name}/{file.name}" in held
    for data in ("zoo/registry.json", "zoo/published.json", "studies/structures.json"):
        assert f"gvtnets_tf/{data}" in held
    files = (ROOT / "gvtnets_tf").rglob("*.py*")
    written = {str(p.relative_to(ROOT)) for p in files if p.suffix in (".py", ".pyi")}
    assert written | {"gvtnets_tf/py.typed"} <= held
    assert "gvtnets_command.py" in held
    assert not [name for name in held if name.startswith(("tests/", "runs/"))]

    # Installed, outside the clone, every shipped network answers as when it was made.
    zipfile.ZipFile(wheel).extractall(tmp_path / "installed")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "installed")}
    done = subprocess.run(
        [sys.executable, "-c", SHIPPED], check=True, capture_output=True, text=True,
        cwd=tmp_path, env=environment,
    )  # fmt: skip
    assert str(tmp_path / "installed") in done.stdout
