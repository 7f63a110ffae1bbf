"""Pair input files with target files: by name, by wildcard, by order, or by a table."""

import glob
import os
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gvtnets_tf.checks import check_choice, cut, quote, read_csv
from gvtnets_tf.data.sources import find
from gvtnets_tf.images.metadata import file_stem

SPLITS = ("train", "validation", "test")
# Columns of the tables that are in use, the input's path before the target's.
COLUMNS = (
    ("input", "target"),
    ("path_signal", "path_target"),
    ("path_czi", "channel_signal", "channel_target"),
)


@dataclass(frozen=True)
class PairPaths:
    """The files of an input and its target: one row of a table of pairs.

    Attributes:
        input, target: `Path` of the two files, which may be the same.
        split: str. One of `SPLITS`, or `""` if the pair is not assigned to one.
        input_channel, target_channel: int, counted from 0, or `None` for all channels.

    Examples:
        >>> PairPaths(Path("noisy/1.tif"), Path("clean/1.tif"), "validation").split
        'validation'
    """

    input: Path
    target: Path
    split: str = "train"
    input_channel: int | None = None
    target_channel: int | None = None


def match_pairs(
    inputs: str | Path | Sequence, targets: str | Path | Sequence, pair_by: str = "name"
) -> list[tuple[Path, Path]]:
    """Find the target file of each input file.

    Args:
        inputs, targets: as in `find`. One file named on either side is a pair in any case.
        pair_by: `"name"` pairs files of equal name (image suffixes apart) or, for two
            globs, files for which the wildcards stand for the same text;
            `"order"` pairs the first with the first in natural order.

    Returns:
        List of `(input, target)` paths, in the order of the inputs.

    Raises:
        FileNotFoundError: if a side is empty.
        ValueError: listing files without a partner or with several, or naming a folder of wells.

    Examples:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = [(folder / f"1_{channel}.tif").touch() for channel in ("light", "dna")]
        >>> match_pairs(f"{folder}/*_light.tif", f"{folder}/*_dna.tif")[0][1].name
        '1_dna.tif'
    """
    check_choice("pair_by", pair_by, ("name", "order"))
    left, right = _list_files(inputs), _list_files(targets)
    given = [spec if isinstance(spec, (list, tuple)) else [spec] for spec in (inputs, targets)]
    named = [[Path(path) for path in spec] for spec in given] == [left[:1], right[:1]]
    if pair_by == "order" and len(left) != len(right):
        raise ValueError(
            f"Pairing by order needs as many inputs as targets. "
            f"Received: {len(left)} inputs and {len(right)} targets."
        )
    if named or pair_by == "order":  # two files that were named, not searched for
        return list(zip(left, right))
    keys = [(file_stem, file_stem)]
    if all(isinstance(s, (str, Path)) and glob.has_magic(str(s)) for s in (inputs, targets)):
        keys.insert(0, (_wildcard_key(inputs), _wildcard_key(targets)))
    problems = []
    for input_key, target_key in keys:
        by_input, by_target = _group(left, input_key), _group(right, target_key)
        problems.append(_describe_problem(by_input, by_target))
        if not problems[-1]:
            return [(path, by_target[input_key(path)][0]) for path in left]
    raise ValueError(problems[0])


def read_pairs_csv(path: str | Path, root: str | Path | None = None) -> list[PairPaths]:
    """Read a table of pairs.

    Args:
        path: CSV with the columns `input,target[,split]`, `path_signal,path_target` (pytorch_fnet)
            or `path_czi,channel_signal,channel_target` (Allen: channels of one file).
        root: folder the paths are relative to; `None` means the folder of the CSV.

    Returns:
        List of `PairPaths`. Without a column `split` all are `"train"`.

    Raises:
        FileNotFoundError, ValueError: naming the row, what the table lacks, or that it is none.

    Examples:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "pairs.csv").write_text("input,target,split\\n.,.,test\\n")
        >>> read_pairs_csv(folder / "pairs.csv")[0].split
        'test'
    """
    path = Path(path)
    root = path.parent if root is None else Path(root)
    if not path.is_file():
        raise FileNotFoundError(f"No such table of pairs: {path}.")
    names, rows = read_csv(path)
    columns = next((pair for pair in COLUMNS if set(pair) <= set(names)), None)
    if columns is None:
        known = " or ".join(",".join(columns) for columns in COLUMNS)
        raise ValueError(
            f"{path} must have the columns {known}. Received: {cut(','.join(names)) or 'nothing'}."
        )
    if not rows:
        raise ValueError(f"{path} has a header and no rows.")
    return [_parse_row(f"{path}, row {i}", row, columns, root) for i, row in enumerate(rows, 1)]


def _list_files(spec) -> list[Path]:
    sources = find(spec)
    if any(source.well for source in sources):
        raise ValueError(
            f"{spec} holds wells of the in-silico labeling data set, whose planes and labels are "
            f"pairs already: name it as `wells`, or use `find_wells`."
        )
    return [source.path for source in sources]


def _wildcard_key(spec):
    """Return the function from a path to the texts that the wildcards of a glob stand for."""
    texts = {"**/": "((?:.*/)?)", "**": "(.*)", "*": "([^/]*)", "?": "([^/])"}
    parts = re.split(r"(\*\*/|\*\*|\*|\?|\[[^\]]+\])", Path(spec).as_posix())
    for i, part in enumerate(parts):
        choice = f"([{part[1:-1].replace('!', '^', 1)}])"
        parts[i] = re.escape(part) if i % 2 == 0 else texts.get(part, choice)
    pattern = re.compile("".join(parts))
    # On a file system without case a glob matches paths that the pattern does not.
    return lambda path: (m := pattern.fullmatch(path.as_posix())) and m.groups()


def _group(paths, key):
    groups = defaultdict(list)
    for path in paths:
        groups[key(path)].append(path)
    return groups


def _describe_problem(inputs, targets):
    """Name the files without a partner or with several; return an empty text if there is none."""
    problems = []
    for mine, other, name in ((inputs, targets, "target"), (targets, inputs, "input")):
        alone = [path for key in mine if key not in other for path in mine[key]]
        problems += [f"No {name} for {_join(alone)}."] if alone else []
        twins = (paths for paths in mine.values() if len(paths) > 1)
        problems += [f"Which one is meant, of {_join(paths)}?" for paths in twins]
    hint = "Rename them, choose other globs, or pair by order (--pair-by order)."
    return f"Inputs and targets do not pair up. {' '.join(problems)} {hint}" if problems else ""


def _join(paths, most=20):
    more = f" and {len(paths) - most} more" if len(paths) > most else ""
    return ", ".join(map(str, paths[:most])) + more


def _parse_row(where, row, columns, root):
    cells = {name: (row.get(name) or "").strip() for name in row if name}
    if empty := [name for name in columns if not cells[name]]:
        raise ValueError(f"{where} has nothing under {', '.join(empty)}.")
    files = [root / cells[name] for name in columns if not name.startswith("channel")]
    if missing := [file for file in files if not os.path.exists(file)]:  # nor can be there
        raise FileNotFoundError(f"{where} names a file that is not there: {cut(missing[0])}.")
    try:
        split = check_choice("split", cells.get("split") or "train", SPLITS)
        channels = [_parse_channel(cells.get(f"channel_{side}")) for side in ("signal", "target")]
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    return PairPaths(files[0], files[-1], split, *channels)


def _parse_channel(text):
    if text and not (text.isdecimal() and len(text) < 10):
        raise ValueError(f"channels are counted 0, 1, 2... Received: {quote(text)}.")
    return int(text) if text else None
