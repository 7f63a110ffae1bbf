"""Find the images that a path, a glob, a folder, a `.zarr` or a folder of wells stands for."""

import glob
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gvtnets_tf.data.in_silico_labeling.file_names import is_dataset
from gvtnets_tf.data.in_silico_labeling.wells import Well, find_wells
from gvtnets_tf.images.formats.ome_zarr import is_zarr
from gvtnets_tf.images.image import Image
from gvtnets_tf.images.metadata import SUFFIXES, file_stem, natural_key
from gvtnets_tf.images.readers import read


@dataclass(frozen=True)
class Source:
    """An image that can be opened: a file, a folder, or a well of the labeling data set.

    Attributes:
        name: str. The stem of the file, or the name of the well.
        path: `Path` of the file or folder; of a well its first plane.
        well: `Well`, which has labels besides its planes, or `None`.
    """

    name: str
    path: Path
    well: Well | None = None

    def __str__(self):
        return self.name if self.well else str(self.path)

    def open(self, axes: str | None = None, strict: bool = False) -> Image:
        """Open the image, of a well its planes (PNG); see `images.readers.read`."""
        return self.well.input() if self.well else read(self.path, axes, strict)


def find(spec: str | Path | Sequence) -> list[Source]:
    """List the images that a specification stands for.

    Args:
        spec: str or `Path` of a file, folder, `.zarr` or folder of the in-silico labeling data
            set (which stands for its wells), a quoted glob, a `Source`, or a list of these.

    Returns:
        List of `Source` in natural order (`z2` before `z10`), wells by name; a list keeps its
            own order.

    Raises:
        FileNotFoundError: naming the pattern that nothing matches.
        ValueError: naming a well that is not whole, see `find_wells`.

    Examples:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = [(folder / f"{name}.npy").touch() for name in ("z10", "z2")]
        >>> [source.name for source in find(folder)]
        ['z2', 'z10']
    """
    if isinstance(spec, Source):
        return [spec]
    if isinstance(spec, (list, tuple)):
        return [source for entry in spec for source in find(entry)]
    if is_wells(spec):
        return [Source(well.name, well.planes[0], well) for well in find_wells(spec)]
    return [Source(file_stem(path), path) for path in _list_paths(Path(spec))]


def is_wells(spec: str | Path | Sequence) -> bool:
    """Tell whether a specification is a folder of the in-silico labeling data set."""
    return isinstance(spec, (str, Path)) and Path(spec).is_dir() and is_dataset(spec)


def _list_paths(path):
    if path.is_dir() and not (is_zarr(path) or path.suffix.lower() == ".zarr"):
        paths = [p for p in path.iterdir() if SUFFIXES.search(p.name) and p.name[0] != "."]
    elif path.exists():
        return [path]
    else:
        paths = map(Path, glob.glob(str(path), recursive=True))
    paths = sorted(paths, key=natural_key)
    if not paths:
        reason = "no image in the folder" if path.is_dir() else "no file matches"
        raise FileNotFoundError(f"Nothing to read: {reason} {path} (quote a glob in the shell).")
    return paths
