import errno
import os
import subprocess
import sys

import pytest

from gvtnets_tf.atomic_files import (
    MARK,
    MARK_FILE,
    atomic_rewrite,
    atomic_write,
    check_writable,
    is_own,
    lock,
    remove,
    write_csv,
)


def left(folder):
    return sorted(p.name for p in folder.iterdir())


def test_a_file_appears_when_it_is_whole(tmp_path):
    path = tmp_path / "new" / "image.ome.tif"
    with atomic_write(path) as beside:
        beside.write_text("half")
        assert not path.exists()
        assert beside.parent == path.parent
        assert beside.name.endswith(".image.ome.tif")
        assert beside.suffixes[-2:] == [".ome", ".tif"]
    assert path.read_text() == "half"
    assert left(path.parent) == ["image.ome.tif"]


def test_a_folder_appears_when_it_is_whole(tmp_path):
    path = tmp_path / "model"
    with atomic_write(path) as beside:
        beside.mkdir()
        (beside / "a").write_text("1")
        assert not path.exists()
    assert left(path) == [MARK_FILE, "a"]
    assert left(tmp_path) == ["model"]


@pytest.mark.parametrize("error", [ValueError("stop"), KeyboardInterrupt()])
def test_an_error_leaves_nothing_new_and_the_old_as_it_was(tmp_path, error):
    path = tmp_path / "table.csv"
    path.write_text(MARK)
    with pytest.raises(type(error)), atomic_write(path, force=True) as beside:
        beside.write_text("new")
        raise error
    assert path.read_text() == MARK
    assert left(tmp_path) == ["table.csv"]


def test_nothing_is_overwritten_without_force(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text(MARK)
    text = r"table\.csv exists and is not overwritten: choose another output, or pass --force"
    with pytest.raises(FileExistsError, match=text), atomic_write(path):
        pytest.fail("the block must not run")
    with pytest.raises(FileExistsError, match=text):
        check_writable(path)
    assert check_writable(path, force=True) == path
    with atomic_write(path, force=True) as beside:
        beside.write_text("new")
    assert path.read_text() == "new"


@pytest.mark.parametrize("old", ["file", "folder"])
def test_force_replaces_a_folder_and_keeps_nothing_of_it(tmp_path, old):
    path = tmp_path / "model"
    path.mkdir()
    (path / "stale").write_text("old")
    (path / MARK_FILE).touch()
    with atomic_write(path, force=True) as beside:
        if old == "file":
            beside.write_text("new")
        else:
            beside.mkdir()
            (beside / "fresh").write_text("new")
    assert left(tmp_path) == ["model"]
    assert path.read_text() == "new" if old == "file" else left(path) == [MARK_FILE, "fresh"]


def test_a_full_disk_is_said_with_the_path(tmp_path):
    path = tmp_path / "image.tif"
    text = r"Could not write .*image\.tif: No space left on device. Nothing was kept"
    with pytest.raises(OSError, match=text) as error, atomic_write(path) as beside:
        beside.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert error.value.errno == errno.ENOSPC
    assert str(error.value).startswith("Could not write")  # no [Errno 28] for people
    assert left(tmp_path) == []


@pytest.mark.parametrize("force", [False, True])
def test_a_place_that_cannot_be_written_is_said_before_any_work(tmp_path, monkeypatch, force):
    (tmp_path / "file").write_text("")
    out = tmp_path / "file" / "deep" / "out.tif"
    text = r"out\.tif cannot be written: \S+file is not a folder that you may write into\. Choose"
    with pytest.raises(PermissionError, match=text):
        check_writable(out, force)
    with pytest.raises(PermissionError, match=text), atomic_write(out, force):
        pytest.fail("the block must not run")
    monkeypatch.setattr("os.access", lambda path, mode: path != tmp_path)
    with pytest.raises(PermissionError, match=r"new/out\.tif cannot be written"):
        check_writable(tmp_path / "new" / "out.tif", force)
    assert left(tmp_path) == ["file"]


def test_a_block_that_writes_nothing_is_an_error(tmp_path):
    with (
        pytest.raises(FileNotFoundError, match=r"Could not write .*out\.tif"),
        atomic_write(tmp_path / "out.tif"),
    ):
        pass


def test_what_is_not_there_need_not_be_removed(tmp_path):
    remove(tmp_path / "nothing")
    (tmp_path / "link").symlink_to(tmp_path)
    remove(tmp_path / "link")
    assert left(tmp_path) == []


def test_a_folder_takes_the_place_of_a_file_and_a_file_that_of_a_folder(tmp_path):
    path = tmp_path / "out"
    path.write_text(MARK)
    with atomic_write(path, force=True) as beside:
        beside.mkdir()
        (beside / "in").write_text("new")
    assert (path / "in").read_text() == "new"
    with atomic_write(path, force=True) as beside:
        beside.write_text("newer")
    assert path.read_text() == "newer"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_table_has_a_column_for_every_key(tmp_path):
    write_csv(tmp_path / "t.csv", [{"a": 1}, {"a": 2, "b": 3}])
    assert (tmp_path / "t.csv").read_text().split() == ["a,b", "1,", "2,3"]


def test_a_short_write_of_numpy_is_said_with_the_path_and_the_reason(tmp_path):
    path = tmp_path / "image.tif"
    text = (
        r"^Could not write .*image\.tif: the disk or a quota is full \(9 requested and 4 written "
        r"elements\)\. Nothing was kept\.$"
    )
    with pytest.raises(OSError, match=text) as error, atomic_write(path):
        raise OSError("9 requested and 4 written")
    assert error.value.errno == errno.ENOSPC
    with pytest.raises(OSError, match=r"^the server slept$"), atomic_write(path):
        raise OSError("the server slept")


@pytest.mark.parametrize(
    "files, own",
    [
        ({}, True),
        ({MARK_FILE: ""}, True),
        ({"model.json": '{"format": 2}', "weights.h5": ""}, True),
        ({"summary.json": '{"channels": {}}', "metrics.csv": ""}, True),
        ({"zarr.json": '{"attributes": {"gvtnets": {}}}'}, True),
        ({"zarr.json": '{"attributes": {}}'}, False),
        ({"model.json": '{"format": 2}'}, False),
        ({"model.json": '{"layers": 2}', "weights.h5": ""}, False),
        ({"thesis.tex": MARK}, False),
    ],
)
def test_a_folder_is_known_by_its_mark(tmp_path, files, own):
    path = tmp_path / "out"
    path.mkdir()
    for name, text in files.items():
        (path / name).write_text(text)
    assert is_own(path) == own
    before = {name: (path / name).read_text() for name in left(path)}
    if not own:
        text = r"out was not written by gvtnets_tf, and --force .* replaces only what was: remove"
        with pytest.raises(FileExistsError, match=text), atomic_write(path, force=True):
            pytest.fail("the block must not run")
        assert {name: (path / name).read_text() for name in left(path)} == before


@pytest.mark.parametrize("where", [0, 2_000_000, 4_000_000])
def test_a_file_is_known_by_its_mark_at_either_end(tmp_path, where):
    path = tmp_path / "out.tif"
    path.write_bytes(b"\0" * where + MARK.encode() + b"\0" * (4_000_000 - where))
    assert is_own(path) == (where != 2_000_000)
    path.write_bytes(b"")
    assert is_own(path)  # nothing would be lost
    (tmp_path / "link").symlink_to(tmp_path / "none")
    assert not is_own(tmp_path / "link")
    with pytest.raises(FileExistsError, match="link exists and is not overwritten"):
        check_writable(tmp_path / "link")


def test_an_input_is_never_the_output(tmp_path):
    with atomic_write(tmp_path / "data") as folder:
        folder.mkdir()
        (folder / "in.tif").write_text(MARK)
    text = r"is an input of this run, or holds one \(.*in\.tif\), and is not replaced by its result"
    image = tmp_path / "data" / "in.tif"
    (tmp_path / "link.tif").symlink_to(image)
    for out in (image, tmp_path / "data", tmp_path / "link.tif"):
        with pytest.raises(ValueError, match=text):
            check_writable(out, force=True, inputs=["other.tif", image])
    inside = image.parent / "out.tif"
    assert check_writable(inside, inputs=[image, image.parent]) == inside


KILLED = """
import os, sys
from gvtnets_tf.atomic_files import atomic_write, lock
with lock(sys.argv[1]), atomic_write(sys.argv[1]) as beside:
    beside.write_text("half")
    print("ready", flush=True)
    sys.stdin.readline()
    os._exit(9)
"""


def test_a_second_run_is_refused_while_the_first_lives_and_tidies_up_after_it(tmp_path):
    out = tmp_path / "new" / "out.tif"
    words = [sys.executable, "-c", KILLED, str(out)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(words, **pipes) as first:
        assert first.stdout.readline() == "ready\n"
        text = r"out\.tif is being written by another run: wait until it is over, or choose another"
        with pytest.raises(BlockingIOError, match=text), lock(out):
            pytest.fail("the block must not run")
        with pytest.raises(BlockingIOError, match=text), atomic_write(out, force=True):
            pytest.fail("the block must not run")
        first.communicate("die\n")
    assert first.returncode == 9
    assert left(out.parent) == [".lock.out.tif", ".new.out.tif"]
    with lock(out):
        assert left(out.parent) == [".lock.out.tif"]
    with lock(out), atomic_write(out) as beside:
        beside.write_text("whole")
    assert (left(out.parent), out.read_text()) == (["out.tif"], "whole")


def test_a_folder_that_was_set_aside_comes_back_where_no_new_one_came(tmp_path, monkeypatch):
    out = tmp_path / "model"
    with atomic_write(out) as folder:
        folder.mkdir()
        (folder / "old").touch()
    real = os.replace

    def interrupted(source, target):
        if target == out and ".new." in str(source):
            raise KeyboardInterrupt
        real(source, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "replace", interrupted)
        with atomic_write(out, force=True) as folder:
            folder.mkdir()
    assert (left(tmp_path), left(out)) == (["model"], [MARK_FILE, "old"])
    # A kill between the two renames; and one after them.
    out.rename(tmp_path / ".old.model")
    with pytest.raises(FileExistsError, match="model exists"), lock(out):
        check_writable(out)
    assert left(tmp_path) == ["model"]
    (tmp_path / ".old.model").mkdir()
    with lock(out):
        assert left(tmp_path) == [".lock.model", "model"]


def test_a_lock_leaves_no_folder_behind_and_is_needed_once(tmp_path, monkeypatch):
    with lock(tmp_path / "a" / "b" / "out"), lock(tmp_path / "a" / "b" / "out"):
        assert left(tmp_path / "a" / "b") == [".lock.out"]
    assert left(tmp_path) == []

    def refuse(*args, **kwargs):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("filelock.FileLock.acquire", refuse)  # e.g. a network disk
    with atomic_write(tmp_path / "out") as beside:
        beside.write_text("whole")
    assert left(tmp_path) == ["out"]


def test_what_lies_in_an_own_output_is_replaced_without_asking(tmp_path):
    (tmp_path / "progress.json").write_text("old")
    (tmp_path / ".new.progress.json").write_text("of a killed run")
    with atomic_rewrite(tmp_path / "progress.json") as beside:
        assert not beside.exists()
        beside.write_text("new")
    assert (left(tmp_path), (tmp_path / "progress.json").read_text()) == (["progress.json"], "new")
