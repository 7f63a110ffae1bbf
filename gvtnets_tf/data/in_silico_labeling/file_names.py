"""File names of the in-silico labeling data set.

A name is a list of fields with commas between them. Two spellings are in use, of which the
public bucket has the second; case says nothing in either:

    lab-FINKBEINER,condition-KEVAN_0_8,acquisition_date,year-2015,...,channel-DAPI_CONFOCAL,...
    lab-Finkbeiner,condition-kevan_0_8,acquisition_date,year-2015,...,channel,value-DAPI_CONFOCAL,...

Source: google/in-silico-labeling, data.md and isl/testdata/condition_blue_sample.
"""

import datetime
import itertools
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gvtnets_tf.checks import check_choice

# Folders `<lab>/<condition>` of the public bucket; the letters are the paper's.
CONDITIONS = {
    "A": ("Rubin/scott_1_0",),
    "B": tuple(f"Finkbeiner/kevan_0_{i}" for i in (7, 8, 9, 10)),
    "C": ("Finkbeiner/alicia_2_0",),
    "D": ("Finkbeiner/yusha_0_1",),
    "E": ("GLS/2015_06_26",),
}
LABELS = (
    "DAPI_CONFOCAL", "DAPI_WIDEFIELD", "MAP2_CONFOCAL", "NFH_CONFOCAL", "TUJ1_WIDEFIELD",
    "ISLET_WIDEFIELD", "DEAD_CONFOCAL", "CELLMASK_CONFOCAL",
)  # fmt: skip
NEURITE = "NEURITE_CONFOCAL"  # the mean of the two below, in the bucket as a file of its own
NEURITE_PARTS = ("MAP2_CONFOCAL", "NFH_CONFOCAL")
SPLITS = ("train", "test")
TRANSMITTED = ("BRIGHTFIELD", "PHASE_CONTRAST", "DIC")
FIELD = re.compile(r"([^,-]+)(?:,\s*value\s*)?-([^,]*)", re.IGNORECASE)
REQUIRED = ("lab", "condition", "year", "month", "day", "well", "channel")


@dataclass(frozen=True)
class FileName:
    """The fields of one file name."""

    lab: str  # this and the condition in small letters
    condition: str
    letter: str  # of the condition in the paper
    date: datetime.date
    well: str
    z: int | None  # `None` for a label
    channel: str  # of `LABELS` or `NEURITE`, of a plane of `TRANSMITTED`
    predicted: bool = False
    mask: bool = False

    @property
    def series(self) -> str:
        """Name of the well among all of the data set, such as a file can have."""
        return f"{self.lab}_{self.condition}_{self.date}_{self.well}"


def parse_name(path: str | Path) -> FileName:
    """Parse a path or bare name of a `.png` of the data set, in either spelling."""
    try:
        return _parse_fields(_split_fields(path), is_predicted(path))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def is_named(path: str | Path) -> bool:
    """Tell whether a file is named as those of the data set are."""
    path = Path(path)
    return path.suffix.lower() == ".png" and path.name.lower().startswith("lab-")


def is_predicted(path: str | Path) -> bool:
    """Tell whether a file is named as a prediction."""
    return "PREDICTED" in Path(path).name.upper()


def is_dataset(folder: str | Path, most: int = 10_000) -> bool:
    """Tell whether the first `most` files of a folder include a plane of the data set."""
    names = (name for _, _, names in os.walk(folder) for name in names)
    return any(
        is_named(name) and not is_predicted(name) and "z_depth" in _split_fields(name)
        for name in itertools.islice(names, most)
    )


def list_folders(conditions: str | Sequence[str] | None = None) -> tuple[str, ...]:
    """List the folders `<lab>/<condition>` of some conditions (see `find_wells`), in order."""
    known = {**CONDITIONS, **{n.split("/")[1]: (n,) for part in CONDITIONS.values() for n in part}}
    given = CONDITIONS if conditions is None else conditions
    given = [given] if isinstance(given, str) else list(map(str, given))
    if not given:
        raise ValueError(f"Name at least one condition. Received: conditions={conditions!r}.")
    names = [name.upper() if len(name) == 1 else name.lower() for name in given]
    folders = [path for name in names for path in known[check_choice("condition", name, known)]]
    return tuple(dict.fromkeys(folders))


def find_split(path: Path, folder: Path) -> str | None:
    """Return which of `SPLITS` the nearest folder below `folder` is called after, or `None`.

    The names of the bucket (`train_single_channel_images`) count as well.
    """
    parts = (folder.resolve().name, *path.parent.relative_to(folder).parts)
    names = (part.lower().removesuffix("_single_channel_images") for part in reversed(parts))
    return next((name for name in names if name in SPLITS), None)


def _split_fields(path):
    """Split a name into fields: `key-value`, or `key` and then `value-value`."""
    fields = FIELD.findall(Path(path).stem)
    return {key.strip().lower(): value.strip().upper() for key, value in fields}


def _parse_fields(fields, predicted):
    transmitted = fields.get("channel") in TRANSMITTED
    required = REQUIRED + ("z_depth",) * transmitted
    if missing := [key for key in required if not fields.get(key)]:
        raise ValueError(
            f"the name lacks {', '.join(missing)}. Images of several channels, as in the "
            f"overviews of the public bucket, are not read."
        )
    folder = f"{fields['lab']}/{fields['condition']}".lower()
    letters = {name.lower(): letter for letter, names in CONDITIONS.items() for name in names}
    letter = letters[check_choice("condition", folder, letters)]
    z = _parse_number(fields, "z_depth") if "z_depth" in fields else None
    known = (*LABELS, NEURITE) if z is None else TRANSMITTED
    channel = check_choice("label" if z is None else "channel", fields["channel"], known)
    date = datetime.date(*(_parse_number(fields, key) for key in ("year", "month", "day")))
    check_choice("kind", fields.get("kind", "ORIGINAL"), ("ORIGINAL", "PREDICTED"))
    mask = check_choice("is_mask", fields.get("is_mask", "FALSE"), ("FALSE", "TRUE"))
    names = *folder.split("/"), letter, date, fields["well"]
    return FileName(*names, z, channel, predicted, mask == "TRUE")


def _parse_number(fields, key):
    if not fields[key].isdecimal():
        raise ValueError(f"{key} must be a whole number. Received: {fields[key]!r}.")
    return int(fields[key])
