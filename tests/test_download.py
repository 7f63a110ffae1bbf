"""A file arrives whole and checked, or what went wrong is said."""

import errno
import hashlib
import io
import time
from functools import partialmethod
from pathlib import Path

import numpy as np
import pytest
from webserver import serving

from gvtnets_tf.download import compute_digest, fetch

CONTENT = np.random.default_rng(0).bytes(300_000)
SHA = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
OTHER = f"sha256:{hashlib.sha256(b'other').hexdigest()}"


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving() as found:
        found.files["/file.bin"] = CONTENT
        yield found


def get(server, folder, name="file.bin", **options):
    options = {"size": len(CONTENT), "digest": SHA, "progress": False, **options}
    return fetch(f"{server.url}/file.bin", folder / name, **options)


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def refused(error, message, server, folder, **options):
    with pytest.raises(error) as found:
        get(server, folder, **options)
    assert type(found.value) is error
    assert message in str(found.value)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("kind", ["sha256", "md5", "git"])
def test_a_file_arrives_whole_and_checked(server, tmp_path, kind):
    (tmp_path / "source").write_bytes(CONTENT)
    digest = compute_digest(tmp_path / "source", kind)
    path = get(server, tmp_path / "new" / "folder", digest=digest)
    assert path == tmp_path / "new" / "folder" / "file.bin"
    assert path.read_bytes() == CONTENT
    assert names(path.parent) == ["file.bin"]
    wrong = digest[:-1] + ("0" if digest[-1] != "0" else "1")
    refused(ValueError, f"it is {digest}, not {wrong}", server, tmp_path, digest=wrong)


def test_git_and_this_package_give_a_file_the_same_id(tmp_path):
    (tmp_path / "hello").write_bytes(b"hello\n")
    assert (
        compute_digest(tmp_path / "hello", "git") == "git:ce013625030ba8dba906f756967f9e9ca394464a"
    )


def test_a_file_that_is_there_is_not_fetched_again(server, tmp_path):
    get(server, tmp_path)
    get(server, tmp_path)
    assert len(server.asked) == 1
    (tmp_path / "file.bin").write_bytes(b"spoiled")
    assert get(server, tmp_path).read_bytes() == CONTENT
    get(server, tmp_path, digest=None)  # Its size is the one that is there.
    assert len(server.asked) == 2
    get(server, tmp_path, size=None, digest=None)
    assert len(server.asked) == 3


def test_a_bar_of_progress_is_shown_on_standard_error(server, tmp_path, capsys):
    get(server, tmp_path, progress=True)
    shown = capsys.readouterr()
    assert "file.bin" in shown.err
    assert shown.out == ""
    get(server, tmp_path, "quiet.bin")
    assert capsys.readouterr() == ("", "")


def test_a_file_is_asked_for_again(server, tmp_path, monkeypatch):
    waits = []
    monkeypatch.setattr(time, "sleep", waits.append)
    server.status = 503
    refused(ConnectionError, "503", server, tmp_path, retries=2)
    assert len(server.asked) == 3 and waits == [1, 2]


@pytest.mark.parametrize("length, error", [(True, ConnectionError), (False, ValueError)])
def test_a_download_that_breaks_off_leaves_nothing(server, tmp_path, length, error):
    server.length, server.cut = length, 1000
    message = {
        True: "broke off before its end (IncompleteRead(1000 bytes read, 299000 more expected)).",
        False: "it has 1000 bytes, not 300000. Nothing was kept. Fetch it again",
    }
    refused(error, message[length], server, tmp_path)
    assert names(tmp_path) == []
    server.cut = None
    assert get(server, tmp_path).read_bytes() == CONTENT


def test_without_a_size_and_a_digest_a_truncated_file_is_refused(server, tmp_path):
    server.cut = 1000
    refused(ConnectionError, "broke off", server, tmp_path, size=None, digest=None)
    assert names(tmp_path) == []
    server.cut = None
    assert get(server, tmp_path, size=None, digest=None).read_bytes() == CONTENT


# What is not the file.


def test_a_changed_file_is_refused_and_not_kept(server, tmp_path):
    message = f"is not the file that was expected: it is {SHA}, not {OTHER}. Nothing was kept."
    (tmp_path / "file.bin").write_bytes(b"old")
    refused(ValueError, message, server, tmp_path, digest=OTHER)
    assert names(tmp_path) == ["file.bin"]
    assert (tmp_path / "file.bin").read_bytes() == b"old"


@pytest.mark.parametrize(
    "size, message",
    [
        (299_999, "it has more than 299999 bytes, which are not read. Nothing was kept."),
        (300_001, "it has 300000 bytes, not 300001. Nothing was kept."),
        (0, "it has more than 0 bytes, which are not read."),
    ],
)
def test_another_size_is_refused(server, tmp_path, size, message):
    refused(ValueError, message, server, tmp_path, size=size)
    assert names(tmp_path) == []


@pytest.mark.parametrize("length", [True, False])
def test_more_bytes_than_there_should_be_are_not_read(server, tmp_path, length, monkeypatch):
    server.length, written = length, []

    class Counting(io.FileIO):
        def write(self, block):
            written.append(len(block))
            return super().write(block)

    monkeypatch.setattr(Path, "open", partialmethod(Counting))
    message = "is not the file that was expected: it has more than 99999 bytes, which are not read"
    refused(ValueError, message, server, tmp_path, size=99_999)
    refused(ValueError, message, server, tmp_path, size=None, largest=99_999)
    assert 0 < sum(written) <= 2 * 99_999
    assert names(tmp_path) == []


def test_a_file_of_nothing_is_a_file(server, tmp_path):
    server.files["/file.bin"] = b""
    empty = f"sha256:{hashlib.sha256().hexdigest()}"
    assert get(server, tmp_path, size=0, digest=empty).read_bytes() == b""


@pytest.mark.parametrize("url", ["file:///etc/hosts", "ftp://there/file", "there", ""])
def test_only_the_web_is_fetched_from(tmp_path, url):
    with pytest.raises(ValueError, match=r"Only http:// and https:// are fetched\. Received: "):
        fetch(url, tmp_path / "file")


@pytest.mark.parametrize("target", ["file:///etc/hosts", "ftp://127.0.0.1/file"])
def test_a_server_cannot_send_it_elsewhere(server, tmp_path, target):
    server.redirect = target
    with pytest.raises(ConnectionError, match=r"cannot be reached|was refused"):
        get(server, tmp_path)
    assert names(tmp_path) == []


def test_a_server_may_send_it_to_another_address(server, tmp_path):
    with serving() as other:
        other.redirect = f"{server.url}/file.bin"
        assert get(other, tmp_path).read_bytes() == CONTENT
    assert server.asked == ["/file.bin"]


@pytest.mark.parametrize("digest", ["", "sha1:" + "0" * 40, "0" * 64])
def test_an_unknown_digest_is_refused(server, tmp_path, digest):
    refused(ValueError, "`digest` cannot be ", server, tmp_path, digest=digest)
    assert server.asked == []


# Servers and disks.


@pytest.mark.parametrize(
    "status, error, message",
    [
        (404, FileNotFoundError, "There is no file at http://127.0.0.1:"),
        (410, FileNotFoundError, "(the server said 410). Check the address."),
        (403, ConnectionError, "was refused: the server said 403 Forbidden. Try again later."),
        (503, ConnectionError, "was refused: the server said 503 Service Unavailable."),
    ],
)
def test_what_the_server_says_is_told(server, tmp_path, status, error, message):
    server.status = status
    refused(error, message, server, tmp_path)
    assert names(tmp_path) == []


def test_no_server_is_told(tmp_path):
    with serving() as gone:
        pass
    refused(
        ConnectionError, "cannot be reached ([Errno 111] Connection refused). Check", gone, tmp_path
    )
    assert names(tmp_path) == []


@pytest.mark.parametrize("after", [-1, 1000])
def test_a_server_that_falls_silent_is_left(server, tmp_path, after):
    server.silent, began = after, time.monotonic()
    refused(TimeoutError, "sent nothing for 0.3 s. Check the", server, tmp_path, timeout=0.3)
    assert time.monotonic() - began < 3
    assert names(tmp_path) == []
    server.silent = None
    assert get(server, tmp_path).read_bytes() == CONTENT


def test_a_full_disk_is_told(server, tmp_path, monkeypatch):
    class Full(io.FileIO):
        def write(self, block):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "open", partialmethod(Full))
    message = f"Could not write {tmp_path / 'file.bin'}: No space left on device. Nothing was kept."
    with pytest.raises(OSError) as found:
        get(server, tmp_path)
    assert str(found.value) == message
    assert found.value.errno == errno.ENOSPC
    assert names(tmp_path) == []
    monkeypatch.undo()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert get(server, tmp_path).read_bytes() == CONTENT


def test_a_folder_that_is_closed_is_told(server, tmp_path, monkeypatch):
    (tmp_path / "taken").write_text("a file")
    message = "taken is not a folder that you may write into. Choose another output."
    refused(PermissionError, message, server, tmp_path / "taken")
    assert server.asked == []

    def closed(path, mode):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", closed)
    message = f"Could not write {tmp_path / 'file.bin'}: Permission denied. Nothing was kept."
    refused(PermissionError, message, server, tmp_path)
    assert server.asked == []
