"""Which input belongs to which target."""

import csv
import glob
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from gvtnets_tf.checks import check_choice
from gvtnets_tf.data.pair_checks import Finding, check_pairs
from gvtnets_tf.images.formats.ome_zarr import is_zarr
from gvtnets_tf.images.metadata import SUFFIXES, natural, stem

__all__ = ["Finding", "Row", "check_pairs", "expand", "from_csv", "match"]

PAIR_BY = ("name", "order")
SPLITS = ("train", "validation", "test")
# Columns of the tables that are in use, the input's path before the target's.
COLUMNS = (
    ("input", "target"),
    ("path_signal", "path_target"),
    ("path_czi", "channel_signal", "channel_target"),
)


@dataclass(frozen=True)
class Row:
    """One row of a table of pairs.

    Attributes:
        input, target: `Path` of the two files, which may be the same.
        split: `"train"`, `"validation"` or `"test"`.
        input_channel, target_channel: int, counted from 0, or `None` for all channels.
    """

    input: Path
    target: Path
    split: str = "train"
    input_channel: int | None = None
    target_channel: int | None = None


def expand(spec):
    """List the images that a file, a quoted glob, a folder or a `.zarr` stands for.

    Args:
        spec: str or `Path`, or a list of them.

    Returns:
        List of `Path` in natural order (`z2` before `z10`); a list keeps its own order
        of entries.

    Raises:
        FileNotFoundError: naming the pattern that nothing matches.
    """
    if isinstance(spec, (list, tuple)):
        return [path for entry in spec for path in expand(entry)]
    path = Path(spec)
    if path.is_dir() and not (is_zarr(path) or path.suffix.lower() == ".zarr"):
        found = [p for p in path.iterdir() if SUFFIXES.search(p.name) and p.name[0] != "."]
    elif path.exists():
        return [path]
    else:
        found = map(Path, glob.glob(str(path), recursive=True))
    found = sorted(found, key=natural)
    if not found:
        what = "no image in the folder" if path.is_dir() else "no file matches"
        raise FileNotFoundError(f"Nothing to read: {what} {spec} (quote a glob in the shell).")
    return found


def match(inputs, targets, pair_by="name"):
    """Find the target of each input.

    Args:
        inputs, targets: what `expand` takes.
        pair_by: `"name"` pairs files of equal name (image suffixes apart) or, for two
            globs, files for which the wildcards stand for the same text;
            `"order"` pairs the first with the first in natural order. One existing file
            on either side is a pair whatever the names.

    Returns:
        List of `(input, target)` paths, in the order of the inputs.

    Raises:
        FileNotFoundError: if a side is empty.
        ValueError: listing the files without a partner, or with more than one.
    """
    check_choice("pair_by", pair_by, PAIR_BY)
    left, right = expand(inputs), expand(targets)
    given = [spec if isinstance(spec, (list, tuple)) else [spec] for spec in (inputs, targets)]
    if [[Path(path) for path in spec] for spec in given] == [left[:1], right[:1]]:
        return list(zip(left, right))  # Two files were named, not searched for.
    if pair_by == "order":
        if len(left) != len(right):
            raise ValueError(
                f"Pairing by order needs as many inputs as targets. "
                f"Received: {len(left)} inputs and {len(right)} targets."
            )
        return list(zip(left, right))
    problems = []
    for key, other in _keys(inputs, targets):
        by_key, by_other = _group(left, key), _group(right, other)
        problem = _problem(by_key, by_other)
        if not problem:
            return [(path, by_other[key(path)][0]) for path in left]
        problems.append(problem)
    raise ValueError(problems[0])


def from_csv(path, root=None):
    """Read a table of pairs.

    Args:
        path: CSV with the columns `input,target[,split]`, `path_signal,path_target` (as
            pytorch_fnet has) or `path_czi,channel_signal,channel_target` (as the Allen
            data have: both images are channels of one file). Others are ignored.
        root: folder the paths are relative to; `None` means the folder of the CSV.

    Returns:
        List of `Row`. Without a column `split` all are `"train"`.

    Raises:
        FileNotFoundError: if the CSV is missing, or a file of it, naming the row.
        ValueError: if columns are missing, or a row is incomplete.
    """
    path = Path(path)
    root = path.parent if root is None else Path(root)
    if not path.is_file():
        raise FileNotFoundError(f"No such table of pairs: {path}.")
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        names = [name.strip() for name in reader.fieldnames or ()]
        reader.fieldnames = names
        rows = list(reader)
    columns = next((pair for pair in COLUMNS if set(pair) <= set(names)), None)
    if columns is None:
        known = " or ".join(",".join(columns) for columns in COLUMNS)
        raise ValueError(
            f"{path} must have the columns {known}. Received: {','.join(names) or 'nothing'}."
        )
    if not rows:
        raise ValueError(f"{path} has a header and no rows.")
    return [_row(f"{path}, row {i}", row, columns, root) for i, row in enumerate(rows, 1)]


def _keys(inputs, targets):
    """Ways to name a file, best first, one function for each side."""
    specs = (inputs, targets)
    if all(isinstance(s, (str, Path)) and glob.has_magic(str(s)) for s in specs):
        yield tuple(map(_wildcards, specs))
    yield stem, stem


def _wildcards(spec):
    """Return the function from a path to what the wildcards of a glob stand for in it."""
    texts = {"**/": "((?:.*/)?)", "**": "(.*)", "*": "([^/]*)", "?": "([^/])"}
    parts = re.split(r"(\*\*/|\*\*|\*|\?|\[[^\]]+\])", Path(spec).as_posix())
    for i, part in enumerate(parts):
        choice = f"([{part[1:-1].replace('!', '^', 1)}])"
        parts[i] = re.escape(part) if i % 2 == 0 else texts.get(part, choice)
    pattern = re.compile("".join(parts))
    # A glob on a file system without case may find what the pattern does not spell.
    return lambda path: (m := pattern.fullmatch(path.as_posix())) and m.groups()


def _group(paths, key):
    groups = defaultdict(list)
    for path in paths:
        groups[key(path)].append(path)
    return groups


def _problem(inputs, targets):
    """Say which files have no partner or several, or nothing."""
    problems = []
    for mine, other, name in ((inputs, targets, "target"), (targets, inputs, "input")):
        alone = [path for key in mine if key not in other for path in mine[key]]
        if alone:
            problems.append(f"No {name} for {_list(alone)}.")
        for twins in mine.values():
            if len(twins) > 1:
                problems.append(f"Which one is meant, of {_list(twins)}?")
    hint = "Rename them, choose other globs, or pair by order (--pair-by order)."
    return f"Inputs and targets do not pair up. {' '.join(problems)} {hint}" if problems else ""


def _list(paths, most=20):
    more = f" and {len(paths) - most} more" if len(paths) > most else ""
    return ", ".join(map(str, paths[:most])) + more


def _row(where, row, columns, root):
    cells = {name: (row.get(name) or "").strip() for name in row if name}
    if empty := [name for name in columns if not cells[name]]:
        raise ValueError(f"{where} has nothing under {', '.join(empty)}.")
    files = [root / cells[name] for name in columns if not name.startswith("channel")]
    for file in files:
        if not file.exists():
            raise FileNotFoundError(f"{where} names a file that is not there: {file}.")
    try:
        split = check_choice("split", cells.get("split") or "train", SPLITS)
        channels = [_channel(cells.get(f"channel_{side}")) for side in ("signal", "target")]
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    return Row(files[0], files[-1], split, *channels)


def _channel(text):
    if text and not text.isdecimal():
        raise ValueError(f"channels are counted 0, 1, 2... Received: {text!r}.")
    return int(text) if text else None
