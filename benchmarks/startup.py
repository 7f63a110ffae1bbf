"""Seconds until the package and its command line are there, without TensorFlow.

    python benchmarks/startup.py [--json FILE] [--rounds N] [--quick]

Each is a fresh process, the best of several rounds, taking turns; a Python that does nothing and
one that imports TensorFlow are measured beside it.
"""

import subprocess
import sys

import timing

HELP = "import sys; from gvtnets_tf.cli.main import main; sys.argv = ['gvtnets', '--help']; main()"
PROGRAMS = {
    "python": "pass",
    "import_gvtnets_tf": "import gvtnets_tf",
    "gvtnets_help": HELP,
    "import_tensorflow": "import tensorflow",
}
OURS = ("import_gvtnets_tf", "gvtnets_help")


def python(program):
    """Run a program in a fresh Python; return what it says on standard error."""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"`{program}` failed:\n{done.stderr}")
    return done.stderr


def imported(program):
    """Modules that a program has imported when it ends."""
    tell = "print(*sys.modules, file=sys.stderr)"
    return python(f"import atexit, sys; atexit.register(lambda: {tell}); {program}").split()


def measure(quick, rounds):
    ways = {n: lambda p=p: python(p) for n, p in PROGRAMS.items() if not quick or "tens" not in n}
    seconds = timing.time_best(ways, rounds)
    heavy = {n: [m for m in ("tensorflow", "keras") if m in imported(PROGRAMS[n])] for n in OURS}
    return {
        "seconds": seconds,
        "ratios": {f"{n}_to_python": seconds[n] / seconds["python"] for n in OURS},
        "heavy_imports": heavy,
    }


if __name__ == "__main__":
    timing.run(measure, __doc__, rounds=3)
