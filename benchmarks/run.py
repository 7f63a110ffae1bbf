"""Run every benchmark and write one JSON file.

    python benchmarks/run.py [--json FILE] [--only NAME] [--quick]

Each benchmark runs by itself, one after the other, so that none disturbs another.
`docs/performance.md` says what the numbers mean.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import timing

HERE = Path(__file__).parent
# Options of a full run and of one that only shows that all of it runs.
BENCHMARKS = {
    "startup": ([], ["--quick", "--rounds", "1"]),
    "attention": ([], ["--quick", "--rounds", "1"]),
    "networks": ([], ["--quick", "--rounds", "1"]),
    "exports": ([], ["--quick", "--rounds", "1"]),
    "staining": ([], ["--quick", "--rounds", "1"]),
    "pipeline": (["--rounds", "3"], ["--steps", "2", "--rounds", "1"]),
}


def measure(name, options, folder):
    """Run one benchmark; return its numbers, and the seconds that it took."""
    out, start, machine = Path(folder) / f"{name}.json", time.monotonic(), timing.describe_machine()
    command = [sys.executable, str(HERE / f"{name}.py"), "--json", str(out), *options]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"benchmarks/{name}.py ended with {done.returncode}:\n{done.stderr}")
    took = {"took_seconds": round(time.monotonic() - start, 1)}
    return {"machine": machine} | json.loads(out.read_text()) | took


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = HERE / "results.json"
    parser.add_argument("--json", type=Path, metavar="FILE", help=f"by default {default.name}")
    only = "measure this alone, and keep the other numbers of the file; may be repeated"
    parser.add_argument("--only", action="append", choices=BENCHMARKS, help=only)
    parser.add_argument("--quick", action="store_true", help="small sizes: does it run?")
    args = parser.parse_args()
    if args.quick and not args.json:
        parser.error("`--quick` numbers mean nothing: say where to put them with `--json FILE`.")
    out = args.json or default
    results = json.loads(out.read_text()) if args.only and out.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        for name in args.only or BENCHMARKS:
            results[name] = measure(name, BENCHMARKS[name][args.quick], folder)
            sys.stderr.write(f"{name}: {results[name]['took_seconds']} s\n")
    text = json.dumps(results, indent=2) + "\n"
    out.write_text(text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
