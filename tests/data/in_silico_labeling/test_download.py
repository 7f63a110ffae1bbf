"""The download of the in-silico labeling data set, from a server in this process."""

import base64
import hashlib
import json
import shutil
import threading
from collections import namedtuple
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
import pytest
from PIL import Image as Pillow

from gvtnets_tf.data.in_silico_labeling import download as module
from gvtnets_tf.data.in_silico_labeling import wells
from gvtnets_tf.data.in_silico_labeling.download import download

WELL = "acquisition_date,year-2015,month-9,day-28,well-"
DAPI = "depth_computation,value-MAXPROJECT,channel,value-DAPI_CONFOCAL"


def png(value):
    """The bytes of a small gray PNG."""
    from io import BytesIO

    file = BytesIO()
    Pillow.fromarray(np.full((4, 5), value, np.uint16)).save(file, "PNG")
    return file.getvalue()


def bucket():
    """Objects of a small bucket: wells A4 (train, B), B1 (test, B), A4 (train, C)."""
    objects = {"paper_data/train/overview.png": b"", "checkpoints.zip": b"zip"}
    places = [("train", "kevan_0_8", "A4"), ("test", "kevan_0_8", "B1")]
    for split, condition, well in [*places, ("train", "alicia_2_0", "A4")]:
        folder = f"paper_data/{split}_single_channel_images/Finkbeiner/{condition}/"
        start = f"{folder}lab-Finkbeiner,condition-{condition},{WELL}{well},"
        for z in range(2):
            plane = f"z_depth-{z},channel,value-PHASE_CONTRAST,is_mask-false,kind,value-ORIGINAL"
            objects[f"{start}{plane}.png"] = png(z)
        objects[f"{start}{DAPI},is_mask-false,kind,value-ORIGINAL.png"] = png(9)
        objects[f"{start}{DAPI},statistic,value-MEDIAN,kind,value-PREDICTED.png"] = png(8)
        objects[f"{folder}index.html"] = b"<html>"
    return objects


class Answer(BaseHTTPRequestHandler):
    """Answers as the bucket does: a listing in pages of two, and files."""

    def do_GET(self):
        address = urlsplit(self.path)
        path, query = unquote(address.path), parse_qs(address.query)
        self.server.asked.append(path)
        if path == "/storage/v1/b/in-silico-labeling/o":
            return self.reply(200, self.server.listing or json.dumps(self.page(query)).encode())
        name = path.removeprefix("/in-silico-labeling/")
        if name in self.server.missing or name not in self.server.objects:
            return self.reply(404, b"no such object")
        return self.reply(200, self.server.damaged.get(name, self.server.objects[name]))

    def page(self, query):
        names = [n for n in sorted(self.server.objects) if n.startswith(query["prefix"][0])]
        first = int(query.get("pageToken", ["0"])[0])
        page = {"items": [self.item(name) for name in names[first : first + 2]]}
        if first + 2 < len(names):
            page["nextPageToken"] = str(first + 2)
        return page if names else {}

    def item(self, name):
        content = self.server.objects[name]
        md5 = base64.b64encode(hashlib.md5(content).digest()).decode()
        item = {"name": name, "size": str(len(content)), "md5Hash": md5}
        if self.server.composite:
            del item["md5Hash"]
        return item

    def reply(self, status, content):
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


Server = namedtuple("Server", "url, settings, stop")


@pytest.fixture
def server():
    """A running server and what can be set on it."""
    http = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    http.objects, http.asked = bucket(), []
    http.missing, http.damaged, http.composite, http.listing = set(), {}, False, b""
    thread = threading.Thread(target=http.serve_forever, args=(0.01,))
    thread.start()

    def stop():
        http.shutdown()
        http.server_close()
        thread.join()

    yield Server(f"http://127.0.0.1:{http.server_port}", http, stop)
    if thread.is_alive():
        stop()


def get(server, out, **kwargs):
    return download(out, base_url=server.url, **{"retries": 0, "progress": False, **kwargs})


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def fetched(server):
    """Names of the files that were asked for, without the listings."""
    return [path for path in server.settings.asked if path.startswith("/in-silico-labeling/")]


def object_named(server, *parts):
    (name,) = [n for n in server.settings.objects if all(part in n for part in parts)]
    return name


PLANE_1 = ("train", "kevan", "z_depth-1,")


def test_what_was_fetched_is_a_data_set(tmp_path, server):
    paths = get(server, tmp_path)
    assert sorted(paths) == files(tmp_path) and len(paths) == 9
    found = [(well.condition, well.split, list(well.labels)) for well in wells.find_wells(tmp_path)]
    label = ["DAPI_CONFOCAL"]
    assert found == [("C", "train", label), ("B", "train", label), ("B", "test", label)]
    for path in paths:
        name = object_named(server, path.parts[-4], path.name)
        assert path.read_bytes() == server.settings.objects[name]
    assert {path.stat().st_mode & 0o777 for path in paths} == {0o644}
    assert paths[0].relative_to(tmp_path).parts[:3] == ("train", "Finkbeiner", "kevan_0_8")


def test_only_what_was_asked_for_is_fetched(tmp_path, server):
    get(server, tmp_path, conditions="B", split="test")
    assert len(fetched(server)) == 3
    assert [well.name for well in wells.find_wells(tmp_path)] == [
        "finkbeiner_kevan_0_8_2015-09-28_B1"
    ]


def test_predictions_come_along_where_they_are_asked_for(tmp_path, server):
    get(server, tmp_path, split="test", predictions=True)
    assert len(files(tmp_path)) == 4
    assert sum("PREDICTED" in path.name for path in files(tmp_path)) == 1


def test_a_second_call_fetches_nothing(tmp_path, server):
    first = get(server, tmp_path)
    server.settings.asked.clear()
    times = [path.stat().st_mtime_ns for path in first]
    assert get(server, tmp_path) == first
    assert server.settings.asked and fetched(server) == []
    assert [path.stat().st_mtime_ns for path in first] == times


def test_a_second_call_mends_what_is_missing_or_damaged(tmp_path, server):
    paths = get(server, tmp_path)
    whole = [path.read_bytes() for path in paths]
    paths[0].unlink()
    paths[4].write_bytes(b"half")
    server.settings.asked.clear()
    get(server, tmp_path)
    assert len(fetched(server)) == 2
    assert [path.read_bytes() for path in paths] == whole


def test_a_file_that_came_with_another_sum_is_not_kept(tmp_path, server):
    name = object_named(server, *PLANE_1)
    content = server.settings.objects[name]
    server.settings.damaged[name] = content[:-1] + b"x"  # of the same length
    with pytest.raises(
        ValueError, match=r"z_depth-1.*: it is md5:[0-9a-f]{32}, not md5:[0-9a-f]{32}\. .*again"
    ):
        get(server, tmp_path)
    assert not any("z_depth-1" in path.name for path in files(tmp_path))
    assert all(path.suffix == ".png" for path in files(tmp_path))  # and no half one

    server.settings.damaged.clear()
    assert len(get(server, tmp_path)) == len(files(tmp_path)) == 9


def test_a_damaged_answer_does_not_replace_what_is_there(tmp_path, server):
    get(server, tmp_path)
    name = object_named(server, *PLANE_1)
    (path,) = tmp_path.glob("train/*/kevan_0_8/*z_depth-1,*")
    path.write_bytes(b"older")
    server.settings.damaged[name] = server.settings.objects[name][:-1] + b"x"
    with pytest.raises(ValueError, match="not md5:"):
        get(server, tmp_path)
    assert path.read_bytes() == b"older"


def test_without_a_sum_the_size_is_checked(tmp_path, server):
    server.settings.composite = True
    name = object_named(server, *PLANE_1)
    server.settings.damaged[name] = b"short"
    with pytest.raises(ValueError, match=r"z_depth-1.*it has 5 bytes, not \d+"):
        get(server, tmp_path)
    assert not any("z_depth-1" in path.name for path in files(tmp_path))

    server.settings.damaged.clear()
    paths = get(server, tmp_path)
    paths[0].write_bytes(b"half")
    server.settings.asked.clear()
    get(server, tmp_path)
    assert len(fetched(server)) == 1 and paths[0].read_bytes() == png(9)


def test_a_file_that_is_not_there_is_told_with_its_address(tmp_path, server):
    server.settings.missing.add(object_named(server, *PLANE_1))
    with pytest.raises(
        FileNotFoundError, match=r"There is no file at .*z_depth-1.*the server said 404"
    ):
        get(server, tmp_path)
    assert all("z_depth-1" not in path.name for path in files(tmp_path))


def test_a_file_is_asked_for_again(tmp_path, server, monkeypatch):
    import time

    waits = []
    monkeypatch.setattr(time, "sleep", waits.append)
    server.settings.missing.add(object_named(server, *PLANE_1))
    with pytest.raises(FileNotFoundError, match="404"):
        get(server, tmp_path, retries=2)
    assert len(waits) == 2 and sum("z_depth-1" in path for path in fetched(server)) == 3


def test_a_server_that_is_gone_is_told(tmp_path, server):
    server.stop()
    message = r"/o cannot be reached \(\[Errno 111\] Connection refused\)\. Check the address"
    with pytest.raises(ConnectionError, match=message):
        get(server, tmp_path)
    assert files(tmp_path) == []


def test_a_server_that_goes_away_in_between_leaves_whole_files(tmp_path, server, monkeypatch):
    fetch, done = module.fetch, []

    def fetch_and_stop(url, path, **options):
        if len(done) == 2:
            server.stop()
        fetch(url, path, **options)
        done.append(path)

    monkeypatch.setattr(module, "fetch", fetch_and_stop)
    with pytest.raises(ConnectionError, match=r"cannot be reached .* Check the address"):
        get(server, tmp_path)
    assert files(tmp_path) == sorted(done) and len(done) == 2


def test_a_page_that_is_no_listing_is_told(tmp_path, server):
    server.settings.listing = b"<html>please log in</html>"
    with pytest.raises(OSError, match=r"/o did not answer with a list of files \(Expecting value"):
        get(server, tmp_path)


def test_a_bucket_without_such_files_is_told(tmp_path, server):
    with pytest.raises(FileNotFoundError, match=r"lists no image of conditions='E', split='test'"):
        get(server, tmp_path, conditions="E", split="test")


def test_no_name_leads_out_of_the_folder(tmp_path, server):
    name = object_named(server, *PLANE_1)
    folder, file = name.rsplit("/", 1)
    names = [f"{folder}/../../../../../{file}", f"{folder}/lab-/../../../../../../{file}", name]
    server.settings.objects = dict.fromkeys(names, png(1))
    (path,) = get(server, tmp_path / "out")
    assert files(tmp_path) == [path]
    assert path.parent == tmp_path / "out/train/Finkbeiner/kevan_0_8"


def test_too_small_a_disk_is_told_before_anything_is_fetched(tmp_path, server, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10, 5, 5))
    with pytest.raises(OSError, match=r"has room for 0.0 GB.*fewer conditions"):
        get(server, tmp_path / "out")
    assert fetched(server) == [] and not (tmp_path / "out").exists()


def test_what_nobody_knows_is_refused_without_asking(tmp_path, server):
    with pytest.raises(ValueError, match=r"`condition` cannot be 'kevan_0_80'. Did you mean"):
        get(server, tmp_path, conditions="kevan_0_80")
    with pytest.raises(ValueError, match="`split` cannot be 'trian'"):
        get(server, tmp_path, split="trian")
    with pytest.raises(ValueError, match="`retries` must be at least 0"):
        get(server, tmp_path, retries=-1)
    assert server.settings.asked == []


def test_progress_goes_to_standard_error(tmp_path, server, capfd):
    get(server, tmp_path, progress=True)
    out, err = capfd.readouterr()
    assert out == "" and "download: 100%" in err
