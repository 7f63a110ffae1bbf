import errno

import pytest

from gvtnets_tf.atomic_files import atomic_write, check_writable, remove, write_csv


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
    assert left(path) == ["a"]


@pytest.mark.parametrize("error", [ValueError("stop"), KeyboardInterrupt()])
def test_an_error_leaves_nothing_new_and_the_old_as_it_was(tmp_path, error):
    path = tmp_path / "table.csv"
    path.write_text("old")
    with pytest.raises(type(error)), atomic_write(path, force=True) as beside:
        beside.write_text("new")
        raise error
    assert path.read_text() == "old"
    assert left(tmp_path) == ["table.csv"]


def test_nothing_is_overwritten_without_force(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("old")
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
    with atomic_write(path, force=True) as beside:
        if old == "file":
            beside.write_text("new")
        else:
            beside.mkdir()
            (beside / "fresh").write_text("new")
    assert left(tmp_path) == ["model"]
    assert path.read_text() == "new" if old == "file" else left(path) == ["fresh"]


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
    path.write_text("old")
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
