"""Files from the web: whole and checked, or not at all."""

import contextlib
import hashlib
import http.client
import os
import re
import sys
import urllib.error
import urllib.request
from pathlib import Path

from tqdm import tqdm

try:
    import fcntl
except ImportError:  # not on Windows: nobody waits there
    fcntl = None

LARGEST = 2**36  # bytes that are taken of a file of unknown size
BLOCK = 2**16
DIGEST = re.compile("(sha256):[0-9a-f]{64}|(git):[0-9a-f]{40}|(md5):[0-9a-f]{32}")


def fetch(url, path, *, size=None, digest=None, timeout=30, progress=True, most=LARGEST):
    """Download a file.

    It is written beside `path` and moved there once it was checked. What an interrupted
    download left is taken up where there is a `digest` to tell that the parts belong
    together. Processes that fetch the same file wait for each other; a file that is there
    and has the `digest` is not fetched again.

    Args:
        url: str. `http://` or `https://`.
        path: file to write, or to replace.
        size: int. Bytes that it must have; more are not read.
        digest: str. `"sha256:..."`, `"md5:..."`, or `"git:..."`, the id that git gives the
            file: SHA-1 of `blob SIZE`, a zero byte and the content.
        timeout: float. Seconds that the server may stay silent.
        progress: bool. Whether a bar is shown on standard error.
        most: int. Bytes that a file of unknown size may have.

    Returns:
        `Path` of the file.

    Raises:
        FileNotFoundError: if the server has no such file.
        ConnectionError: if there is no server, or it stops before the end.
        TimeoutError: if nothing comes for `timeout` seconds.
        ValueError: for another scheme, or a file of another size or digest.
        OSError: if the file cannot be written (no space, no permission).
    """
    path = Path(path)
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"Only http:// and https:// are fetched. Received: {url!r}.")
    if digest is not None and not DIGEST.fullmatch(digest):
        raise ValueError(
            f"`digest` must be sha256:, md5: or git: and as many hexadecimal digits as belong to "
            f"it. Received: {digest!r}."
        )
    if not _is_there(path, size, digest):
        with _told(path), locked(path, progress):
            if not _is_there(path, size, digest):  # another process may have been faster
                _fetch(url, path, size, digest, timeout, progress, most)
    return path


def _is_there(path, size, digest):
    return digest is not None and path.is_file() and not _fault(path, size, digest)


def _fetch(url, path, size, digest, timeout, progress, most):
    part = path.with_name(f".{path.name}.part")
    limit = most if size is None else size
    left = part.stat().st_size if digest is not None and part.is_file() else 0
    # What was left may be of another file: then once more, from the start.
    for start in dict.fromkeys((left if left <= limit else 0, 0)):
        if not start or start != size:
            try:
                _receive(url, part, start, size, limit, timeout, progress)
            except BaseException as error:
                if digest is None or isinstance(error, ValueError):
                    part.unlink(missing_ok=True)
                raise
        fault = _fault(part, size, digest)
        if not fault:
            os.replace(part, path)
            return
        part.unlink(missing_ok=True)
    raise ValueError(
        f"{url} is not the file that was expected: {fault}. Nothing was kept. Fetch it again; if "
        f"it stays so, the file was changed there: please report it."
    )


def _receive(url, part, start, size, limit, timeout, progress):
    """Append to `part` what comes; a server that cannot resume sends the whole file."""
    with _open(url, start, timeout) as answer:
        begin = start if _resumes(answer, start) else 0
        total = answer.headers.get("Content-Length")
        total = begin + int(total) if (total or "").isdigit() else size
        if total is not None and (total > limit or size not in (None, total)):
            raise ValueError(
                f"{url} is not the file that was expected: it has {total} bytes, not "
                f"{'at most ' if size is None else ''}{limit}. Nothing was kept."
            )
        bar = tqdm(
            desc=part.name[1 : -len(".part")], total=total, initial=begin, unit="B",
            unit_scale=True, disable=not progress, leave=False,
        )  # fmt: skip
        with bar, open(part, "r+b" if begin else "wb") as file:
            file.seek(begin)
            file.truncate()
            for block in _blocks(url, answer, timeout, file.tell):
                if file.tell() + len(block) > limit:
                    raise ValueError(f"{url} has more than {limit} bytes, which are not read.")
                file.write(block)
                bar.update(len(block))
            came = file.tell()
    if total is not None and came < total:
        raise ConnectionError(
            f"{url} broke off after {came} of {total} bytes. Run it again: it goes on from there "
            f"if the server can."
        )


def _open(url, start, timeout):
    """The server's answer, from byte `start` on where it knows how to."""
    request = urllib.request.Request(url, headers={"User-Agent": "gvtnets_tf"})
    if start:
        request.add_header("Range", f"bytes={start}-")
    try:
        return _opener().open(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        error.close()
        if start and error.code == 416:  # it has no byte there
            return _open(url, 0, timeout)
        if error.code in (404, 410):
            raise FileNotFoundError(
                f"There is no file at {url} (the server said {error.code}). Check the address."
            ) from error
        raise ConnectionError(
            f"{url} was refused: the server said {error.code} {error.reason}. Try again later."
        ) from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, TimeoutError):
            raise _silent(url, timeout, 0) from error
        raise ConnectionError(
            f"{url} cannot be reached ({reason}). Check the address and the network."
        ) from error


def _opener():
    """What opens http and https, redirections included, and nothing else."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler, urllib.request.HTTPHandler, urllib.request.HTTPSHandler,
        urllib.request.HTTPRedirectHandler, urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPErrorProcessor, urllib.request.UnknownHandler,
    ):  # fmt: skip
        opener.add_handler(handler())
    return opener


def _resumes(answer, start):
    said = answer.headers.get("Content-Range") or ""
    return answer.status == 206 and said.startswith(f"bytes {start}-")


def _blocks(url, answer, timeout, came):
    """What the server sends; what goes wrong on the way is told apart from a full disk."""
    while True:
        try:
            block = answer.read1(BLOCK)
        except TimeoutError as error:
            raise _silent(url, timeout, came()) from error
        except (OSError, http.client.HTTPException) as error:
            raise ConnectionError(
                f"{url} broke off after {came()} bytes ({error}). Run it again."
            ) from error
        if not block:
            return
        yield block


def _silent(url, timeout, came):
    return TimeoutError(
        f"{url} sent nothing for {timeout:g} s, after {came} bytes. Check the network, and run it "
        f"again."
    )


def _fault(file, size, digest):
    """What is wrong with a file, or nothing."""
    found = file.stat().st_size
    if size is not None and found != size:
        return f"it has {found} bytes, not {size}"
    if digest is not None and (found := digest_of(file, digest.partition(":")[0])) != digest:
        return f"it is {found}, not {digest}"
    return ""


def digest_of(file, kind="sha256"):
    """Digest of a file, `"KIND:..."`; `kind` is `"sha256"`, `"md5"` or `"git"`."""
    file = Path(file)
    # None of them keeps a secret: they tell whether a file is the one that was meant.
    digest = hashlib.new("sha1" if kind == "git" else kind, usedforsecurity=False)
    if kind == "git":
        digest.update(b"blob %d\0" % file.stat().st_size)
    with file.open("rb") as opened:
        while block := opened.read(BLOCK):
            digest.update(block)
    return f"{kind}:{digest.hexdigest()}"


@contextlib.contextmanager
def _told(path):
    """Say in words which file could not be written, and why."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.strerror is None:
            raise  # It has been told already.
        where = f"{error.filename}: " if error.filename else ""
        words = f"Could not write {path} ({where}{error.strerror}). Mend that, and run it again."
        again = type(OSError(error.errno, ""))(words)
        again.errno = error.errno
        raise again from error


@contextlib.contextmanager
def locked(path, progress=True):
    """Let one process at a time work on `path`; the others wait.

    The lock is a hidden file beside it, which the system frees when a process dies. Where
    there are no such locks nobody waits, and the digest finds what two have mixed up.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(f".{path.name}.lock")
    while True:
        with open(lock, "ab") as file:
            _hold(file, path, progress)
            # Whoever was first has removed the file that this one waited for.
            if _same(file, lock):
                try:
                    yield
                finally:
                    with contextlib.suppress(OSError):
                        lock.unlink()
                return


def _hold(file, path, progress):
    if fcntl is None:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        if progress:
            tqdm.write(f"waiting for another process that fetches {path}", file=sys.stderr)
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError:  # a file system without locks
        pass


def _same(file, lock):
    try:
        return os.path.samestat(os.fstat(file.fileno()), lock.stat())
    except FileNotFoundError:
        return False
