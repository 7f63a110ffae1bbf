"""Time and peak memory of calls, and the machine, for all benchmarks."""

import argparse
import json
import multiprocessing
import os
import platform
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from importlib import metadata
from pathlib import Path

PACKAGES = ("tensorflow", "keras", "numpy", "csbdeep")
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def time_best(ways, rounds):
    """Time calls that take turns, so that a busy machine harms all alike.

    Args:
        ways: mapping from name to a function without arguments. Each is called twice
            beforehand: compilation and thread pools are not counted.
        rounds: int. Times that each has its turn.

    Returns:
        Dict from name to the seconds of its fastest call.
    """
    for way in ways.values():
        way()
        way()
    seconds = [{name: _seconds(way) for name, way in ways.items()} for _ in range(rounds)]
    return {name: min(s[name] for s in seconds) for name in ways}


def _seconds(way):
    start = time.perf_counter()
    way()
    return time.perf_counter() - start


def measure_rise(function):
    """Return by how many bytes the resident memory of this process peaks while `function` runs.

    The kernel's own high-water mark, not samples. Linux only.
    """
    start = _status("VmRSS")
    CLEAR.write_text("5")  # sets the mark back to what is resident now
    function()
    return _status("VmHWM") - start


def measure_high_water():
    """Return the most bytes that were ever resident in this process. Linux only."""
    return _status("VmHWM")


def _status(name):
    lines = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
    return int(lines[name].split()[0]) * 1024


def run_in_process(function, *args):
    """Return `function(*args)` from a fresh process.

    TensorFlow keeps freed memory, so a second call in one process hardly shows in
    its resident memory.
    """
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *args).result()


def describe_machine():
    """Describe the processor and the versions of the packages."""
    return {
        "cpu": _cpu(),
        "threads": len(os.sched_getaffinity(0)),
        "load_before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in PACKAGES},
    }


def _cpu():
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def round_floats(value, digits=4):
    """Round the floats of nested mappings to significant digits."""
    if isinstance(value, dict):
        return {key: round_floats(v, digits) for key, v in value.items()}
    return float(f"{value:.{digits}g}") if isinstance(value, float) else value


def run(measure, doc, rounds):
    """Command line of a benchmark: print what `measure(quick, rounds)` returns as JSON.

    Args:
        measure: function of `(quick, rounds)`; `quick` asks for sizes that only show that
            all of it runs.
        doc: str. Its first line describes the command.
        rounds: int. Default number of rounds.
    """
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers here too")
    parser.add_argument("--rounds", type=int, default=rounds, help="turns of each way")
    parser.add_argument("--quick", action="store_true", help="small sizes: does it run?")
    args = parser.parse_args()
    result = {"machine": describe_machine(), "quick": args.quick, "rounds": args.rounds}
    result |= round_floats(measure(args.quick, args.rounds))
    text = json.dumps(result, indent=2) + "\n"
    if args.json:
        args.json.write_text(text)
    sys.stdout.write(text)
