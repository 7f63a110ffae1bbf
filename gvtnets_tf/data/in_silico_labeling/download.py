"""The in-silico labeling data set, fetched from its public bucket.

Folders and names of the bucket were read in data.md of google/in-silico-labeling
(https://github.com/google/in-silico-labeling/blob/master/data.md), those of its listing in
https://cloud.google.com/storage/docs/json_api/v1/objects/list. The bucket itself could not be
reached when this was written: what is tested is that this understands a server that answers as
these two pages say.
"""

import base64
import shutil
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from gvtnets_tf.checks import check_at_least, check_choice, import_optional
from gvtnets_tf.data.in_silico_labeling.file_names import (
    SPLITS,
    is_named,
    is_predicted,
    list_folders,
)

BASE_URL = "https://storage.googleapis.com"
BUCKET = "in-silico-labeling"
TIMEOUT = 60  # seconds without an answer


@dataclass(frozen=True)
class Entry:
    """One file of the bucket: where it will lie, where it is, how large, and its MD5 sum."""

    key: str
    url: str
    size: int
    md5: str | None


def download(
    out, conditions=None, split=None, predictions=False, base_url=BASE_URL, retries=2, progress=True
):
    """Fetch wells of the data set, so that `isl.wells(out)` reads them.

    A file that is there and whole is not fetched again, so a download that broke off goes on
    where it was. By the sizes and counts that the GPT paper prints, planes and labels are about
    40 GB before compression. Cite Christiansen et al. (2018),
    https://doi.org/10.1016/j.cell.2018.03.040.

    Args:
        out: folder, made if missing. Files go to `<split>/<lab>/<condition>/<file>.png`.
        conditions: letter (`"A"` to `"E"`) or name (`"kevan_0_8"`) or a list of them;
            `None` for all.
        split: `"train"`, `"test"`, or `None` for both.
        predictions: bool. Whether the predictions that the authors published come along.
        base_url: str. Address of the server that holds the bucket.
        retries: int. How often a file is asked for again.
        progress: bool. Whether a bar is drawn on standard error.

    Returns:
        List of `Path`, in the order of the listing.

    Raises:
        ModuleNotFoundError: if `pooch` is missing, with the extra that brings it.
        ValueError: for an unknown condition or split, or if a file came with another MD5 sum
            or size than the listing says; nothing is kept of it.
        FileNotFoundError: if the bucket lists nothing of that kind.
        OSError: naming the address, if the server does not answer or refuses; if the disk is
            too small.
    """
    pooch = import_optional("pooch", "download")
    from tqdm import tqdm

    check_at_least("retries", retries, 0)
    splits = SPLITS if split is None else [check_choice("split", split, SPLITS)]
    places = [(split, folder) for split in splits for folder in list_folders(conditions)]
    entries = [e for place in places for e in _entries(*place, predictions, base_url)]
    if not entries:
        raise FileNotFoundError(
            f"{base_url} lists no image of conditions={conditions!r}, split={split!r} in its "
            f"bucket {BUCKET}."
        )
    out = Path(out)
    _check_space(out, entries)
    pooch.get_logger().setLevel("WARNING")  # else it tells of each of some thousand files
    registry = {entry.key: entry.md5 and f"md5:{entry.md5}" for entry in entries}
    urls = {entry.key: entry.url for entry in entries}
    store = pooch.create(
        out.absolute(), base_url, registry=registry, urls=urls, retry_if_failed=retries
    )
    total = sum(entry.size for entry in entries)
    with tqdm(total=total, unit="B", unit_scale=True, desc="download", disable=not progress) as bar:
        for entry in entries:
            _fetch(store, entry, out / entry.key)
            bar.update(entry.size)
    return [out / entry.key for entry in entries]


def _entries(split, folder, predictions, base_url):
    """The images in one folder of the bucket."""
    prefix = f"paper_data/{split}_single_channel_images/{folder}/"
    for item in _listing(prefix, base_url):
        name = item["name"].removeprefix(prefix)
        if name != Path(name).name:
            continue  # in a folder below, or leading out of it
        if is_named(name) and (predictions or not is_predicted(name)):
            md5 = base64.b64decode(item["md5Hash"]).hex() if "md5Hash" in item else None
            url = f"{base_url}/{BUCKET}/{quote(item['name'])}"
            yield Entry(f"{split}/{folder}/{name}", url, int(item["size"]), md5)


def _listing(prefix, base_url):
    """Entries of the bucket whose names begin with `prefix`, page after page."""
    requests = import_optional("requests", "download")
    url = f"{base_url}/storage/v1/b/{BUCKET}/o"
    query = {"prefix": prefix, "fields": "nextPageToken,items(name,size,md5Hash)"}
    while query.get("pageToken", "first"):
        try:
            answer = requests.get(url, params=query, timeout=TIMEOUT)
            answer.raise_for_status()
            page = answer.json()
        except requests.RequestException as error:
            raise OSError(f"The list of files could not be read: {_reason(url, error)}") from error
        yield from page.get("items", ())
        query["pageToken"] = page.get("nextPageToken")


def _fetch(store, entry, path):
    """Fetch one file, unless it is there and whole."""
    requests = import_optional("requests", "download")
    # Without an MD5 sum the size must do, as for files that were uploaded in parts.
    if entry.md5 is None and path.is_file() and path.stat().st_size != entry.size:
        path.unlink()
    try:
        store.fetch(entry.key)
    except requests.RequestException as error:
        raise OSError(f"A file could not be fetched: {_reason(entry.url, error)}") from error
    except ValueError as error:
        raise ValueError(
            f"{entry.url} did not arrive as the bucket lists it: its MD5 sum is not {entry.md5}. "
            f"Nothing was kept of it; try again."
        ) from error
    if path.stat().st_size != entry.size:
        path.unlink()
        raise ValueError(
            f"{entry.url} did not arrive as the bucket lists it: it does not have {entry.size} "
            f"bytes. Nothing was kept of it; try again."
        )
    if path.stat().st_mode & 0o777 == 0o600:
        path.chmod(0o644)  # what came through a temporary file is for its owner only


def _reason(url, error):
    answer = getattr(error, "response", None)
    said = "no answer" if answer is None else f"{answer.status_code} {answer.reason}"
    return (
        f"{url} says {said} ({type(error).__name__}). What had arrived is kept; call again to go "
        f"on, or check the network and the address (`base_url`)."
    )


def _check_space(out, entries):
    """Refuse to begin what the disk cannot hold."""
    needed = sum(entry.size for entry in entries if not (out / entry.key).is_file())
    above = next(p for p in (out, *out.absolute().parents) if p.exists())
    free = shutil.disk_usage(above).free
    if needed > free:
        raise OSError(
            f"{out} has room for {free / 1e9:.1f} GB, and {needed / 1e9:.1f} GB would be "
            f"fetched. Choose fewer conditions, one split, or another disk."
        )
