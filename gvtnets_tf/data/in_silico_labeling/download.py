"""The in-silico labeling data set, fetched from its public bucket.

Its folders and names are those of https://github.com/google/in-silico-labeling (data.md), its
listing is that of https://cloud.google.com/storage/docs/json_api/v1/objects/list. The bucket
could not be reached when this was written: tested is a server that answers as these pages say.
"""

import base64
import itertools
import shutil
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

import requests
from tqdm import tqdm

from gvtnets_tf.checks import check_at_least, check_choice
from gvtnets_tf.data.in_silico_labeling import file_names
from gvtnets_tf.download import describe_failure, fetch

BASE_URL = "https://storage.googleapis.com"
BUCKET = "in-silico-labeling"
TIMEOUT = 60  # seconds without an answer


def download(
    out: str | Path, conditions: str | Iterable[str] | None = None, split: str | None = None,
    predictions: bool = False, base_url: str = BASE_URL, retries: int = 2, progress: bool = True,
) -> list[Path]:  # fmt: skip
    """Fetch wells of the data set, so that `find_wells(out)` reads them.

    A file that is there and whole is not fetched again, so a second call goes on where the
    first one stopped. By the sizes and counts that the GPT paper prints, planes and labels are
    about 40 GB before compression. Cite Christiansen et al. (2018),
    https://doi.org/10.1016/j.cell.2018.03.040.

    Args:
        out: folder, made if missing. Files go to `<split>/<lab>/<condition>/<file>.png`.
        conditions, split: as in `find_wells`.
        predictions: bool. Whether the predictions that the authors published come along.
        base_url, retries, progress: server of the bucket; the others as in `download.fetch`.

    Returns:
        List of `Path`, in the order of the listing.

    Raises:
        ValueError: for an unknown condition or split.
        FileNotFoundError: if the bucket lists nothing of that kind.
        OSError: if the disk is too small. Otherwise as `download.fetch`.
    """
    check_at_least("retries", retries, 0)
    out, known = Path(out), file_names.SPLITS
    splits = known if split is None else [check_choice("split", split, known)]
    places = itertools.product(splits, file_names.list_folders(conditions))
    files = [f for place in places for f in _list_images(out, *place, predictions, base_url)]
    if not files:
        raise FileNotFoundError(
            f"{base_url} lists no image of conditions={conditions!r}, split={split!r} in its "
            f"bucket {BUCKET}."
        )
    needed = sum(file["size"] for file in files if not file["path"].is_file())
    free = shutil.disk_usage(next(p for p in (out, *out.absolute().parents) if p.exists())).free
    if needed > free:
        raise OSError(
            f"{out} has room for {free / 1e9:.1f} GB, and {needed / 1e9:.1f} GB would be "
            f"fetched. Choose fewer conditions, one split, or another disk."
        )
    total = sum(file["size"] for file in files)
    with tqdm(total=total, unit="B", unit_scale=True, desc="download", disable=not progress) as bar:
        for file in files:
            fetch(**file, timeout=TIMEOUT, retries=retries, progress=False)
            bar.update(file["size"])
    return [file["path"] for file in files]


def _list_images(out, split, folder, predictions, base_url):
    """Yield the arguments `url`, `path`, `size` and `digest` of `fetch` for one folder."""
    prefix = f"paper_data/{split}_single_channel_images/{folder}/"
    for item in _list_objects(prefix, base_url):
        name = item["name"].removeprefix(prefix)
        if name != Path(name).name:
            continue  # in a folder below, or leading out of it
        if file_names.is_named(name) and (predictions or not file_names.is_predicted(name)):
            md5 = item.get("md5Hash")  # which files that were uploaded in parts lack
            yield {
                "url": f"{base_url}/{BUCKET}/{quote(item['name'])}",
                "path": out / split / folder / name,
                "size": int(item["size"]),
                "digest": f"md5:{base64.b64decode(md5).hex()}" if md5 else None,
            }


def _list_objects(prefix, base_url):
    """List the objects of the bucket whose names begin with `prefix`, page after page."""
    url = f"{base_url}/storage/v1/b/{BUCKET}/o"
    query = {"prefix": prefix, "fields": "nextPageToken,items(name,size,md5Hash)"}
    while query.get("pageToken", "first"):
        try:
            answer = requests.get(url, params=query, timeout=TIMEOUT)
            answer.raise_for_status()
            page = answer.json()
        except requests.JSONDecodeError as error:
            raise OSError(
                f"{url} did not answer with a list of files ({error}). Check the address "
                f"(`base_url`) and the network."
            ) from error
        except requests.RequestException as error:
            raise describe_failure(url, error, TIMEOUT) from error
        yield from page.get("items", ())
        query["pageToken"] = page.get("nextPageToken")
