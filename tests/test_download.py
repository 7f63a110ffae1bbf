"""A file arrives whole and checked, or what went wrong is said."""

import errno
import hashlib
import io
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from webserver import serving

from gvtnets_tf import download
from gvtnets_tf.download import digest_of, fetch

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


@pytest.mark.parametrize("kind", ["sha256", "md5", "git"])
def test_a_file_arrives_whole_and_checked(server, tmp_path, kind):
    (tmp_path / "source").write_bytes(CONTENT)
    digest = digest_of(tmp_path / "source", kind)
    path = get(server, tmp_path / "new" / "folder", digest=digest)
    assert path == tmp_path / "new" / "folder" / "file.bin"
    assert path.read_bytes() == CONTENT
    assert names(path.parent) == ["file.bin"]
    wrong = digest[:-1] + ("0" if digest[-1] != "0" else "1")
    refused(ValueError, f"it is {digest}, not {wrong}", server, tmp_path, digest=wrong)


def test_git_and_this_package_give_a_file_the_same_id(tmp_path):
    (tmp_path / "hello").write_bytes(b"hello\n")
    assert digest_of(tmp_path / "hello", "git") == "git:ce013625030ba8dba906f756967f9e9ca394464a"


def test_a_file_that_is_there_is_not_fetched_again(server, tmp_path):
    get(server, tmp_path)
    get(server, tmp_path)
    assert len(server.asked) == 1
    (tmp_path / "file.bin").write_bytes(b"spoiled")
    assert get(server, tmp_path).read_bytes() == CONTENT
    get(server, tmp_path, digest=None)  # nothing tells whether it is the one that is there
    assert len(server.asked) == 3


def test_a_bar_of_progress_is_shown_on_standard_error(server, tmp_path, capsys):
    get(server, tmp_path, progress=True)
    shown = capsys.readouterr()
    assert "file.bin" in shown.err
    assert shown.out == ""
    get(server, tmp_path, "quiet.bin")
    assert capsys.readouterr() == ("", "")


# What an interrupted download left.


@settings(deadline=None, max_examples=15)
@given(st.integers(1, len(CONTENT) - 1), st.booleans())
def test_a_download_goes_on_wherever_it_broke_off(tmp_path_factory, cut, ranges):
    folder = tmp_path_factory.mktemp("cut")
    with serving() as server:
        server.files["/file.bin"], server.cut = CONTENT, cut
        message = f"broke off after {cut} of 300000 bytes. Run it again: it goes on from there"
        refused(ConnectionError, message, server, folder)
        assert names(folder) == [".file.bin.part"]
        server.cut, server.ranges = None, ranges
        assert get(server, folder).read_bytes() == CONTENT
        assert server.asked == [("/file.bin", None), ("/file.bin", f"bytes={cut}-")]
    assert names(folder) == ["file.bin"]


def test_a_server_that_tells_no_size_may_break_off_too(server, tmp_path):
    server.length, server.cut = False, 1000
    refused(ConnectionError, "broke off after 1000 of 300000 bytes", server, tmp_path)
    server.cut = None
    assert get(server, tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("left", [b"x" * 1000, b"x" * len(CONTENT), b"x" * 400_000, b""])
def test_what_was_left_of_another_file_is_not_used(server, tmp_path, left):
    (tmp_path / ".file.bin.part").write_bytes(left)
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert server.asked[-1] == ("/file.bin", None)
    assert names(tmp_path) == ["file.bin"]


def test_what_was_left_whole_needs_no_server(server, tmp_path):
    (tmp_path / ".file.bin.part").write_bytes(CONTENT)
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert server.asked == []


def test_a_server_that_has_no_byte_there_is_asked_for_all(server, tmp_path):
    (tmp_path / ".file.bin.part").write_bytes(CONTENT + b"more")
    assert get(server, tmp_path, size=None).read_bytes() == CONTENT
    assert [asked for _, asked in server.asked] == ["bytes=300004-", None]


def test_without_a_digest_nothing_is_left_or_used(server, tmp_path):
    (tmp_path / ".file.bin.part").write_bytes(b"x" * 1000)
    server.cut = 2000
    refused(ConnectionError, "broke off after 2000", server, tmp_path, digest=None)
    assert names(tmp_path) == []
    server.cut = None
    assert get(server, tmp_path, digest=None, size=None).read_bytes() == CONTENT


def process(url, path, timeout=30):
    words = (
        f"from gvtnets_tf.download import fetch; "
        f"fetch({url!r}, {str(path)!r}, digest={SHA!r}, progress=False, timeout={timeout})"
    )
    return subprocess.Popen([sys.executable, "-c", words])


def wait_for(condition):
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.01)
    pytest.fail("nothing happened for ten seconds")


def test_a_process_that_was_killed_left_what_came(server, tmp_path):
    server.silent = 200_000
    part = tmp_path / ".file.bin.part"
    killed = process(f"{server.url}/file.bin", tmp_path / "file.bin")
    wait_for(lambda: part.exists() and part.stat().st_size == 200_000)
    killed.kill()
    killed.wait()
    server.silent = None
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert server.asked[-1] == ("/file.bin", "bytes=200000-")
    assert names(tmp_path) == ["file.bin"]


# Two at once.


def test_two_processes_fetch_a_file_once(server, tmp_path):
    server.gate.clear()
    both = [process(f"{server.url}/file.bin", tmp_path / "file.bin") for _ in range(2)]
    wait_for(lambda: server.asked)
    time.sleep(0.5)  # for the other one to come that far
    server.gate.set()
    assert [one.wait() for one in both] == [0, 0]
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert server.asked == [("/file.bin", None)]
    assert names(tmp_path) == ["file.bin"]


def test_many_threads_fetch_a_file_once_and_say_that_they_wait(server, tmp_path, capsys):
    server.gate.clear()
    threads = [
        threading.Thread(target=get, args=(server, tmp_path), kwargs={"progress": True})
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    wait_for(lambda: "waiting for another process" in capsys.readouterr().err)
    server.gate.set()
    for thread in threads:
        thread.join()
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert len(server.asked) == 1
    assert names(tmp_path) == ["file.bin"]


@pytest.mark.parametrize("locks", ["none", "refused"])
def test_a_system_without_locks_will_do(server, tmp_path, monkeypatch, locks):
    def no_locks(*args):
        raise OSError(errno.ENOLCK, "No locks available")

    if locks == "none":
        monkeypatch.setattr(download, "fcntl", None)
    else:
        monkeypatch.setattr(download.fcntl, "flock", no_locks)
    assert get(server, tmp_path).read_bytes() == CONTENT


# What is not the file.


def test_a_changed_file_is_refused_and_not_kept(server, tmp_path):
    message = f"is not the file that was expected: it is {SHA}, not {OTHER}. Nothing was kept."
    (tmp_path / "file.bin").write_bytes(b"old")
    refused(ValueError, message, server, tmp_path, digest=OTHER)
    assert names(tmp_path) == ["file.bin"]
    assert (tmp_path / "file.bin").read_bytes() == b"old"


@pytest.mark.parametrize("size", [299_999, 300_001, 0])
def test_another_size_is_refused_before_anything_is_read(server, tmp_path, size):
    message = f"is not the file that was expected: it has 300000 bytes, not {size}."
    refused(ValueError, message, server, tmp_path, size=size)
    assert names(tmp_path) == []


def test_more_bytes_than_there_should_be_are_not_read(server, tmp_path):
    server.length = False
    refused(ValueError, "has more than 1000 bytes, which are not read", server, tmp_path, size=1000)
    refused(ValueError, "more than 999 bytes", server, tmp_path, size=None, most=999)
    server.length = True
    message = "it has 300000 bytes, not at most 999. Nothing was kept"
    refused(ValueError, message, server, tmp_path, size=None, most=999)
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
        (tmp_path / ".file.bin.part").write_bytes(CONTENT[:1000])
        assert get(other, tmp_path).read_bytes() == CONTENT
    assert server.asked == [("/file.bin", "bytes=1000-")]


@pytest.mark.parametrize(
    "digest", ["", "sha256:12", "sha1:" + "0" * 40, "0" * 64, "git:" + "G" * 40]
)
def test_what_is_no_digest_is_refused(server, tmp_path, digest):
    refused(ValueError, f"Received: {digest!r}.", server, tmp_path, digest=digest)
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
    refused(ConnectionError, "cannot be reached ([Errno 111] Connection", gone, tmp_path)
    assert names(tmp_path) == []


@pytest.mark.parametrize("after, left", [(-1, []), (1000, [".file.bin.part"])])
def test_a_server_that_falls_silent_is_left(server, tmp_path, after, left):
    server.silent, began = after, time.monotonic()
    message = f"sent nothing for 0.3 s, after {max(after, 0)} bytes. Check the network"
    refused(TimeoutError, message, server, tmp_path, timeout=0.3)
    assert time.monotonic() - began < 3
    assert names(tmp_path) == left
    server.silent = None
    assert get(server, tmp_path).read_bytes() == CONTENT


def test_a_full_disk_is_told(server, tmp_path, monkeypatch):
    class Full(io.FileIO):
        def write(self, block):
            raise OSError(errno.ENOSPC, "No space left on device")

    real = open
    monkeypatch.setattr(
        download, "open", lambda f, mode: Full(f, "w") if mode == "wb" else real(f, mode),
        raising=False,
    )  # fmt: skip
    message = f"Could not write {tmp_path / 'file.bin'} (No space left on device). Mend that"
    with pytest.raises(OSError) as found:
        get(server, tmp_path)
    assert message in str(found.value)
    assert found.value.errno == errno.ENOSPC
    monkeypatch.undo()
    assert get(server, tmp_path).read_bytes() == CONTENT


def test_a_folder_that_is_closed_is_told(server, tmp_path, monkeypatch):
    (tmp_path / "taken").write_text("a file")
    message = f"taken/file.bin ({tmp_path / 'taken'}: File exists). Mend that, and run it again."
    refused(FileExistsError, message, server, tmp_path / "taken")

    def closed(file, mode):
        raise PermissionError(errno.EACCES, "Permission denied", str(file))

    monkeypatch.setattr(download, "open", closed, raising=False)
    refused(PermissionError, "/.file.bin.lock: Permission denied). Mend that", server, tmp_path)
    assert server.asked == []
