"""Download a file: whole and checked, or not at all."""

import hashlib
import time
from pathlib import Path

import requests
from tqdm import tqdm

from gvtnets_tf.atomic_files import atomic_rewrite
from gvtnets_tf.checks import check_choice

LARGEST = 2**36  # bytes that are read of a file of unknown size
BLOCK = 2**14
TIMEOUT = 30  # seconds without a byte
DIGESTS = ("sha256", "md5", "git")
# A packed answer would have another length than the file.
HEADERS = {"Accept-Encoding": "identity", "User-Agent": "gvtnets_tf"}


def fetch(
    url: str, path: str | Path, *, size: int | None = None, digest: str | None = None,
    largest: int = LARGEST, timeout: float = TIMEOUT, retries: int = 0, progress: bool = True,
) -> Path:  # fmt: skip
    """Download a file of `size` bytes and of a digest, which are checked before it appears.

    A file that is there with this size and digest is not fetched again; without either it always
    is. `digest` is `"sha256:..."`, `"md5:..."`, or `"git:..."`, the id that git gives the file:
    SHA-1 of `blob SIZE`, a zero byte and the content. A file of unknown size may have `largest`
    bytes; the server may stay silent for `timeout` seconds.

    Raises as `describe_failure` and `atomic_rewrite`, and a `ValueError` for another scheme, or
    for a file of another size or digest.
    """
    path, known = Path(path), (size, digest) != (None, None)
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"Only http:// and https:// are fetched. Received: {url!r}.")
    if digest is not None:
        check_choice("digest", digest.partition(":")[0], DIGESTS)
    if known and path.is_file() and not _find_fault(path, size, digest):
        return path
    for attempt in range(retries + 1):
        try:
            return _download(url, path, size, digest, largest, timeout, progress)
        except (ConnectionError, FileNotFoundError, TimeoutError, ValueError):
            if attempt == retries:
                raise
        time.sleep(attempt + 1)


def _download(url, path, size, digest, largest, timeout, progress):
    limit = largest if size is None else size
    with atomic_rewrite(path) as beside:
        style = {"unit": "B", "unit_scale": True, "leave": False, "disable": not progress}
        with tqdm(desc=path.name, total=size, **style) as bar, beside.open("wb") as file:
            for block in _receive(url, timeout):
                if file.tell() + len(block) > limit:
                    raise ValueError(
                        f"{url} is not the file that was expected: it has more than {limit} "
                        f"bytes, which are not read. Nothing was kept."
                    )
                file.write(block)
                bar.update(len(block))
        if fault := _find_fault(beside, size, digest):
            raise ValueError(
                f"{url} is not the file that was expected: {fault}. Nothing was kept. Fetch it "
                f"again; if it stays so, the file was changed there: please report it."
            )
    return path


def _receive(url, timeout):
    try:
        with requests.get(url, stream=True, timeout=timeout, headers=HEADERS) as answer:
            answer.raise_for_status()
            yield from answer.iter_content(BLOCK)
    except requests.RequestException as error:
        raise describe_failure(url, error, timeout) from error


def describe_failure(url: str, error: requests.RequestException, timeout: float) -> OSError:
    """Return the error that says why a server did not answer in `timeout` s, or not to the end."""
    if error.response is not None:
        status, reason = error.response.status_code, error.response.reason
        if status in (404, 410):
            return FileNotFoundError(
                f"There is no file at {url} (the server said {status}). Check the address."
            )
        said = f"the server said {status} {reason}"
        return ConnectionError(f"{url} was refused: {said}. Try again later.")
    cause = error
    while cause.__context__ is not None:
        cause = cause.__context__
    if isinstance(cause, TimeoutError):
        return TimeoutError(
            f"{url} sent nothing for {timeout:g} s. Check the network, and run it again."
        )
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return ConnectionError(f"{url} broke off before its end ({cause}). Run it again.")
    return ConnectionError(f"{url} cannot be reached ({cause}). Check the address and the network.")


def _find_fault(file, size, digest):
    """Say how a file differs from what it must be; empty where it does not."""
    length = file.stat().st_size
    if size not in (None, length):
        return f"it has {length} bytes, not {size}"
    if digest and (own := compute_digest(file, digest.partition(":")[0])) != digest:
        return f"it is {own}, not {digest}"
    return ""


def compute_digest(file: str | Path, kind: str = "sha256") -> str:
    """Compute the digest of a file, `"KIND:..."`; the kinds are those of `fetch`."""
    # None of them keeps a secret: they tell whether a file is the one that was meant.
    digest = hashlib.new("sha1" if kind == "git" else kind, usedforsecurity=False)
    if kind == "git":
        digest.update(b"blob %d\0" % Path(file).stat().st_size)
    with open(file, "rb") as stream:
        return f"{kind}:{hashlib.file_digest(stream, lambda: digest).hexdigest()}"
