"""Write requirements.txt: what `make` installs, with the hash of every file of every package.

The ranges are those of setup.cfg, the versions those of constraints.txt. One file serves all
Pythons and systems; it names no index. Needs uv (`pip install uv`): `make lock`.
"""

import configparser
import json
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent
# PyTorch without CUDA comes from an index of its own, so its environment cannot be locked here.
WITHOUT = {"torch", "safetensors"}
HEAD = "# Written by `make lock` from setup.cfg and constraints.txt.\n"


def lines(text):
    return [line.strip() for line in text.splitlines() if line.strip()]


def describe_project():
    """Return setup.cfg and constraints.txt as the `pyproject.toml` that uv reads."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    extras = config["options.extras_require"]
    wanted = [config["options"]["install_requires"], *(extras[e] for e in extras.keys() - WITHOUT)]
    needed = sorted({line for text in wanted for line in lines(text)})
    # The least Python that every pinned package still serves.
    return (
        '[project]\nname = "locked"\nversion = "0"\nrequires-python = ">=3.11.5,<3.14"\n'
        f"dependencies = {json.dumps(needed)}\n[tool.uv]\n"
        f"constraint-dependencies = {json.dumps(lines((ROOT / 'constraints.txt').read_text()))}\n"
    )


def main():
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "pyproject.toml").write_text(describe_project())
        for words in (["lock"], ["export", "--frozen", "-o", "locked.txt"]):
            more = ["--no-emit-project", "--no-annotate", "--no-header"] if words[1:] else []
            subprocess.run(["uv", *words, "-q", *more], cwd=folder, check=True)
        (ROOT / "requirements.txt").write_text(HEAD + (Path(folder) / "locked.txt").read_text())


if __name__ == "__main__":
    main()
