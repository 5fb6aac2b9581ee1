"""Against a server that cuts connections, changes its files and serves wrong bytes."""

from __future__ import annotations

import hashlib
import io
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from pixloc_ros.cli.main import main
from pixloc_ros.datasets.catalog import SELECTIONS, sources
from pixloc_ros.datasets.transfer import TransferError, fetch_file, files_below, unpack


class Server(ThreadingHTTPServer):
    """files: bytes by path. cuts: path -> how many bytes of an answer are sent, one a request.

    codes: path -> error codes, one a request. asked: (path, Range) of every request.
    """

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.cuts, self.codes, self.asked = {}, {}, {}, []
        self.url = f"http://127.0.0.1:{self.server_port}/"


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        server, path = self.server, self.path.lstrip("/")
        asked = self.headers.get("Range")
        server.asked.append((path, asked))
        if server.codes.get(path):
            self.send_error(server.codes[path].pop(0))
            return
        content = server.files.get(path)
        if content is None and (path.endswith("/") or not path):
            names = sorted(
                {
                    name.removeprefix(path).split("/")[0]
                    + ("/" if "/" in name.removeprefix(path) else "")
                    for name in server.files
                    if name.startswith(path)
                }
            )
            links = "".join(f'<a href="{n}">{n}</a>' for n in names)
            content = (f'<a href="../">up</a><a href="?C=N">sort</a>{links}').encode()
        if content is None:
            self.send_error(404)
            return
        tag = '"' + hashlib.md5(content).hexdigest() + '"'
        begin = 0
        if asked and self.headers.get("If-Range") == tag:
            begin = int(asked.removeprefix("bytes=").rstrip("-"))
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        body = content[begin:]
        self.send_header("ETag", tag)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if server.cuts.get(path):
            body = body[: server.cuts[path].pop(0)]
        self.wfile.write(body)


@pytest.fixture
def server():
    made = Server()
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


CONTENT = bytes(range(256)) * 4000


def test_a_cut_connection_is_gone_on_with(server, tmp_path):
    server.files["a.bin"] = CONTENT
    server.cuts["a.bin"] = [300_000, 100_000, 7]
    assert fetch_file(server.url + "a.bin", tmp_path / "sub" / "a.bin", pause=0.0)
    assert (tmp_path / "sub" / "a.bin").read_bytes() == CONTENT
    ranges = [asked for _, asked in server.asked]
    assert ranges == [None, "bytes=300000-", "bytes=400000-", "bytes=400007-"]
    assert [p.name for p in (tmp_path / "sub").iterdir()] == ["a.bin"]
    # there already: nothing is asked
    assert not fetch_file(server.url + "a.bin", tmp_path / "sub" / "a.bin")
    assert len(server.asked) == 4


def test_what_is_left_over_waits_for_the_next_run(server, tmp_path):
    server.files["a.bin"] = CONTENT
    server.cuts["a.bin"] = [1000] * 5
    with pytest.raises(TransferError, match="5 tries, 5000 bytes are kept"):
        fetch_file(server.url + "a.bin", tmp_path / "a.bin", pause=0.0)
    assert not (tmp_path / "a.bin").exists()
    assert fetch_file(server.url + "a.bin", tmp_path / "a.bin", pause=0.0)
    assert server.asked[-1][1] == "bytes=5000-"
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_a_file_that_changed_is_begun_anew(server, tmp_path):
    server.files["a.bin"] = CONTENT
    server.cuts["a.bin"] = [1000] * 5
    with pytest.raises(TransferError):
        fetch_file(server.url + "a.bin", tmp_path / "a.bin", pause=0.0)
    server.files["a.bin"] = CONTENT[::-1]
    fetch_file(server.url + "a.bin", tmp_path / "a.bin", pause=0.0)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT[::-1]


def test_wrong_bytes_are_not_kept(server, tmp_path):
    server.files["a.bin"] = CONTENT
    right = hashlib.sha256(CONTENT).hexdigest()
    wrong = hashlib.sha256(b"other").hexdigest()
    with pytest.raises(TransferError, match="checksum differs"):
        fetch_file(server.url + "a.bin", tmp_path / "a.bin", wrong)
    assert not list(tmp_path.glob("a.bin*[!n]"))
    assert fetch_file(server.url + "a.bin", tmp_path / "a.bin", right)
    assert not fetch_file(server.url + "a.bin", tmp_path / "a.bin", right)
    with pytest.raises(TransferError, match="not what is published"):
        fetch_file(server.url + "a.bin", tmp_path / "a.bin", wrong)


def test_servers_that_refuse_are_quoted(server, tmp_path):
    with pytest.raises(TransferError, match=r"none\.bin: the server says 404"):
        fetch_file(server.url + "none.bin", tmp_path / "x", pause=0.0)
    assert len(server.asked) == 1
    server.files["busy.bin"] = b"here"
    server.codes["busy.bin"] = [503, 500]
    assert fetch_file(server.url + "busy.bin", tmp_path / "busy.bin", pause=0.0)
    away = server.url.replace(str(server.server_port), "9")
    with pytest.raises(TransferError, match="refused"):
        fetch_file(away + "a.bin", tmp_path / "y", pause=0.0)
    with pytest.raises(TransferError, match="refused"):
        list(files_below(away))


def test_a_full_disk_is_told_before(server, tmp_path, monkeypatch):
    server.files["a.bin"] = CONTENT
    usage = type("usage", (), {"free": 10})
    monkeypatch.setattr("pixloc_ros.datasets.transfer.shutil.disk_usage", lambda _: usage)
    with pytest.raises(TransferError, match="1024000 bytes needed, 10 are free"):
        fetch_file(server.url + "a.bin", tmp_path / "a.bin")


def test_folders_are_listed_and_not_left(server):
    server.files |= dict.fromkeys(("t/a.txt", "t/sub/b c.txt", "t/skip/c.txt", "other.txt"), b"x")
    found = dict((name, url) for url, name in files_below(server.url + "t", ("skip/",)))
    assert set(found) == {"a.txt", "sub/b c.txt"}


def zipped(**files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tarred(**files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


@pytest.mark.parametrize(("name", "make"), [("a.zip", zipped), ("a.tar.gz", tarred)])
def test_archives(tmp_path, name, make):
    (tmp_path / name).write_bytes(make(**{"in/x.txt": b"1"}))
    unpack(tmp_path / name, tmp_path)
    assert (tmp_path / "in/x.txt").read_bytes() == b"1"
    assert not (tmp_path / name).exists()
    (tmp_path / name).write_bytes(make(**{"../out.txt": b"1"}))
    with pytest.raises(TransferError, match=r"out of the folder|cannot be unpacked"):
        unpack(tmp_path / name, tmp_path)
    assert not (tmp_path.parent / "out.txt").exists()
    (tmp_path / name).write_bytes(make(**{"in/y.txt": b"1" * 5000})[:60])
    with pytest.raises(TransferError, match="cannot be unpacked"):
        unpack(tmp_path / name, tmp_path)


def test_a_data_set_from_its_servers(server, tmp_path, capsys):
    """7Scenes: archives within archives, hloc's outputs as a listed folder."""
    for scene in ("chess", "fire", "heads", "office", "pumpkin", "redkitchen", "stairs"):
        inner = zipped(**{f"seq-01/{scene}.color.png": b"p", "seq-01/Thumbs.db": b"t"})
        server.files[f"ms/{scene}.zip"] = zipped(**{f"{scene}/seq-01.zip": inner})
    truth = "1cu6KUR7WHO7G4EO49Qi3HEKU6n_yYDjb"
    server.files[f"drive/{truth}"] = zipped(**{"7scenes_sfm_triangulated/heads/x": b"g"})
    server.files["pixloc/7Scenes/heads/query_list_with_intrinsics.txt"] = b"q"
    server.files["pixloc/checkpoints/pixloc_cmu/checkpoint_best.tar"] = b"weights"
    roots = {"7scenes": "ms/", "drive": "drive/", "pixloc": "pixloc/"}
    arguments = ["download", "--select", "7Scenes", "checkpoints"]
    arguments += ["--data", str(tmp_path / "d"), "--outputs", str(tmp_path / "o")]
    for name, place in roots.items():
        arguments += ["--root", f"{name}={server.url}{place}"]
    assert main(arguments) == 0
    for scene in ("chess", "stairs"):
        assert (tmp_path / f"d/7Scenes/{scene}/seq-01/{scene}.color.png").is_file()
    assert (tmp_path / "d/7Scenes/7scenes_sfm_triangulated/heads/x").is_file()
    assert (tmp_path / "o/hloc/7Scenes/heads/query_list_with_intrinsics.txt").is_file()
    assert (tmp_path / "o/training/pixloc_cmu/checkpoint_best.tar").read_bytes() == b"weights"
    assert not list(tmp_path.rglob("*.zip"))
    assert "7Scenes: 9 files downloaded" in capsys.readouterr().out
    count = len(server.asked)
    assert main(arguments) == 0
    assert "7Scenes: 0 files downloaded" in capsys.readouterr().out
    # only the listings are asked for again
    assert all(path.endswith("/") for path, _ in server.asked[count:])


def test_selections_and_slices():
    for selection in SELECTIONS:
        assert sources(selection, [], training=True)
    few = sources("CMU", ["2", "7"], training=False)
    paths = {source.path.split("/", 1)[1] for source in few}
    assert paths == {"slice2.tar", "slice2/", "slice7.tar"}
    assert len(sources("CMU", [], training=False)) == 2 * 14
    assert any("training" in s.path for s in sources("CMU", [], training=True))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--CMU_slices", "1"], "--CMU_slices 1: no such slice"),
        (["--root", "nowhere=http://x/"], "NAME=URL with one of"),
        (["--root", "pixloc=http://127.0.0.1:9/"], "127.0.0.1:9/"),
    ],
)
def test_mistakes_get_one_line(tmp_path, capsys, more, message):
    code = main(["download", "--select", "checkpoints", "--outputs", str(tmp_path), *more])
    assert code == 1
    assert message in capsys.readouterr().err
