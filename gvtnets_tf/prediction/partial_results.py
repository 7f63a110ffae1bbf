"""Keep finished parts of a result in a hidden folder until all of them are there."""

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gvtnets_tf.atomic_files import atomic_rewrite, remove
from gvtnets_tf.checks import check_same_settings, read_json
from gvtnets_tf.images import readers, writers

SETTINGS = "settings.json"


@dataclass(frozen=True)
class _Part:
    files: tuple[str, ...]  # names in the folder
    info: Mapping[str, Any]


@dataclass(frozen=True)
class Parts:
    """Finished parts of a result, each under its number."""

    folder: Path  # made when the first part is put there
    settings: dict  # that all parts depend on, for JSON
    prefix: str = ""  # of their names

    def inner(self, prefix: str | int) -> "Parts":
        """Return parts with numbers of their own in the same folder."""
        return Parts(self.folder, self.settings, f"{self.prefix}{prefix}-")

    def get(self, number: int) -> tuple | None:
        """Return what `put` kept under a number: `(images, info)`, or `None`."""
        about = self._file(number)
        if not about.is_file():
            return None
        part = read_json(about, _Part)
        return [readers.read(self.folder / Path(name).name) for name in part.files], part.info

    def put(self, number: int, images: list, info: dict) -> None:
        """Keep the images of a part, and the mapping that says how they were made."""
        _write(self.folder / SETTINGS, self.settings)
        about = self._file(number)
        names = [f"{about.stem}_{i}.tif" for i in range(len(images))]
        for name, image in zip(names, images):
            writers.write(self.folder / name, image, force=True)
        # The last to appear: with it, the part is whole.
        _write(about, {"files": names, "info": info})

    def _file(self, number):
        return self.folder / f"{self.prefix}{number:06}.json"


def parts_folder(out: Path) -> Path:
    """Return the hidden folder beside an output that its parts wait in."""
    return out.with_name(f".{out.name}.parts")


def check_no_parts(out: Path, *, resume: bool = False, force: bool = False) -> None:
    """Raise `FileExistsError` rather than lose the parts that a stopped run has left."""
    if parts_folder(out).exists() and not (resume or force):
        raise FileExistsError(
            f"A run that stopped left parts of {out} in {parts_folder(out)}: go on with --resume "
            f"(`resume=True`), or start anew with --force (`force=True`)."
        )


@contextlib.contextmanager
def keep_parts(
    out: Path, settings: dict, *, resume: bool = False, force: bool = False
) -> Iterator[Parts]:
    """Open the parts that an output will be made of; they are removed when all is done.

    On an error, or when the process is stopped, they stay for the next run, which may `resume` if
    its settings are the same. With `force` it starts anew where it could not go on.
    """
    check_no_parts(out, resume=resume, force=force)
    folder, settings = parts_folder(out), json.loads(json.dumps(settings, default=_plain))
    file = folder / SETTINGS
    before = read_json(file) if resume and file.is_file() else None
    if before is None or (force and before != settings):
        remove(folder)
    elif not force:
        run = f"The run that stopped before it had finished {out}"
        advice = "Repeat its settings, or start anew with --force (`force=True`)."
        check_same_settings(settings, before, run, advice)
    yield Parts(folder, settings)
    remove(folder)


def _write(file, values):
    with atomic_rewrite(file) as beside:
        beside.write_text(json.dumps(values))


def _plain(value):
    """Return an array as a list, and what JSON does not know as text."""
    return value.tolist() if hasattr(value, "tolist") else str(value)
