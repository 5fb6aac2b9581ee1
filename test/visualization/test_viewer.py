"""The viewer in a real browser, and what it does with those who mean it harm."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import cv2
import numpy as np
import pytest

from pixloc_ros.cli.main import main
from pixloc_ros.errors import InputError
from pixloc_ros.features import read_image
from pixloc_ros.localization import Prior, RunFile, RunWriter, View
from pixloc_ros.mapping import PixMap

viser = pytest.importorskip("viser", reason="the viewer is built on viser")

BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
FLAGS = (
    *("--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader"),
    *("--enable-unsafe-swiftshader", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="drives the browser")
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("no Chromium is installed (Debian: apt install chromium-headless-shell)")
    with playwright.sync_playwright() as play:
        yield play.chromium.launch(executable_path=found, args=list(FLAGS))


class Page:
    """A tab on a viewer, with what its console said."""

    def __init__(self, browser, viewer, width=1300):
        self.page = browser.new_page(viewport={"width": width, "height": 900})
        self.said = []
        self.page.on("console", lambda m: self.said.append((m.type, m.text)))
        self.page.on("pageerror", lambda e: self.said.append(("error", str(e))))
        self.page.goto(viewer.address)
        self.page.get_by_text("references,").wait_for(timeout=60_000)

    def text(self):
        return self.page.inner_text("body")

    def wait(self, wanted):
        deadline = time.monotonic() + 30
        while not wanted():
            assert time.monotonic() < deadline, self.text()
            self.page.wait_for_timeout(100)

    def pictures(self):
        return self.page.eval_on_selector_all("img", "all => all.map(i => i.src)")

    def field(self, label):
        """The input beside a label."""
        beside = "following::*[self::input or self::textarea][1]"
        return self.page.locator(f"xpath=//label[normalize-space()='{label}']/{beside}")

    def slide(self, number, key):
        self.page.locator("[role=slider]").nth(number).focus()
        self.page.keyboard.press(key)

    def screenshot(self):
        data = np.frombuffer(self.page.screenshot(), np.uint8)
        return cv2.imdecode(data, cv2.IMREAD_COLOR)

    def close(self):
        self.page.close()
        errors = [text for kind, text in self.said if kind == "error"]
        assert not errors


@pytest.fixture
def serve(room, monkeypatch):
    from pixloc_ros.visualization.viewer import Viewer

    made = []

    def start(run=None, **options):
        pixmap = PixMap(room.map_file)
        viewer = Viewer(pixmap, run, port=0, **options)
        made.append((viewer, pixmap))
        return viewer

    yield start
    for viewer, pixmap in made:
        viewer.close()
        pixmap.close()


def coloured(image, colour):
    """How many pixels are about of an RGB colour."""
    return int((np.abs(image[..., ::-1].astype(int) - colour).max(-1) < 40).sum())


def test_a_map(room, serve, browser):
    viewer = serve(images=room.root / "images", dark=True)
    page = Page(browser, viewer)
    page.wait(lambda: coloured(page.screenshot(), (0, 114, 178)) > 200)  # cameras are drawn
    assert page.screenshot().mean() < 90  # dark
    names = viewer.pixmap.model.names
    box = page.field("reference")
    box.fill(names[3])
    box.press("Enter")
    page.wait(lambda: f"{names[3]}: " in page.text())
    page.wait(lambda: any(src for src in page.pictures()))
    assert coloured(page.screenshot(), (230, 159, 0)) > 20  # the chosen camera
    box.fill("nobody")
    box.press("Enter")
    page.wait(lambda: "no reference of that name" in page.text())
    page.close()


def test_clicking_a_camera_shows_its_picture(room, serve, browser):
    viewer = serve(images=room.root / "images")
    page = Page(browser, viewer, width=1000)
    client = next(iter(viewer._server.get_clients().values()))
    target = viewer.scene.centres[5] - viewer.scene.origin
    pose = viewer.pixmap.poses[5].inverse()
    # from behind the camera, looking along with it: its four edges meet in the middle
    behind = target - 0.5 * pose.rotation[:, 2].numpy()
    client.camera.position, client.camera.look_at = tuple(behind), tuple(target)
    page.page.wait_for_timeout(1500)
    for dx, dy in ((0, 0), (3, 0), (0, 3), (-3, 0), (0, -3), (5, 5), (-5, 5)):
        page.page.mouse.click(500 + dx, 450 + dy)
        page.page.wait_for_timeout(400)
        if " points" in page.text().split("its picture.")[1]:
            break
    page.wait(lambda: re.search(r"reference\D*\S+: \d+ points", page.text(), re.S))
    page.close()


def position(text):
    """Where the panel says the camera is."""
    return np.array(re.search(r"\bat (-?\d\S* -?\d\S* -?\d\S*)", text)[1].split(), float)


def test_a_run_step_by_step(serve, recorded, browser, tmp_path):
    with RunFile(recorded) as run:
        viewer = serve(run)
        page = Page(browser, viewer)
        last = len(run[0].trace)
        page.wait(lambda: f"step {last} of {last}" in page.text())
        page.wait(lambda: any(page.pictures()))
        at, picture = position(page.text()), page.pictures()
        before = page.screenshot()
        page.slide(1, "Home")
        page.wait(lambda: f"step 1 of {last}" in page.text())
        page.wait(lambda: page.pictures() != picture)  # the reprojections moved
        assert np.linalg.norm(position(page.text()) - at) > 0.05
        page.page.wait_for_timeout(500)
        changed = np.abs(page.screenshot().astype(int) - before)[:, :900].max(-1) > 40
        assert changed.sum() > 100  # the camera moved in the scene
        # the animation goes on by itself
        page.field("play").check()
        page.wait(lambda: "step 3 of" in page.text())
        page.field("play").uncheck()
        # a frame that was not localized says why
        page.slide(0, "End")
        page.wait(lambda: "dark.png: " in page.text())
        assert "agree on" in page.text() or "points" in page.text()
        page.slide(0, "Home")
        page.wait(lambda: run[0].name in page.text())
        # what is saved
        page.page.get_by_text("Save", exact=True).click()
        with page.page.expect_download(timeout=60_000) as download:
            page.page.get_by_text("this view as PNG").click()
        download.value.save_as(tmp_path / "a.png")
        assert cv2.imread(str(tmp_path / "a.png")).std() > 5
        with page.page.expect_download(timeout=120_000) as download:
            page.page.get_by_text("the steps as MP4").click()
        download.value.save_as(tmp_path / "a.mp4")
        film = cv2.VideoCapture(str(tmp_path / "a.mp4"))
        assert int(film.get(cv2.CAP_PROP_FRAME_COUNT)) == last
        page.close()


def test_a_run_that_is_being_recorded(room, localizer, serve, browser, tmp_path):
    path = tmp_path / "live.pixrun"
    frame = room.sequence.frames[1]
    image = read_image(room.sequence.images / frame.name)
    result = localizer.localize(image, frame.camera, Prior(frame.truth))
    with RunWriter(path, localizer.map) as writer, RunFile(path) as run:
        viewer = serve(run, follow=True)
        page = Page(browser, viewer)
        assert "waiting for the first frame" in page.text()
        for number in range(3):
            writer.add(f"at {number} s", number, [View(image, frame.camera)], None, result)
            page.wait(lambda number=number: f"at {number} s: fix" in page.text())
        # who looks back is not carried on
        page.field("newest").uncheck()
        page.slide(0, "Home")
        page.wait(lambda: "at 0 s: fix" in page.text())
        writer.add("at 3 s", 3, [View(image, frame.camera)], None, result)
        page.page.wait_for_timeout(1500)
        assert "at 0 s: fix" in page.text()
        page.close()


def get(viewer, path):
    try:
        with urllib.request.urlopen(viewer.address + path, timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def raw(viewer, data, wait=2.0):
    """What comes back for bytes that no browser sends."""
    host, port = viewer.address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=wait) as connection:
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            return connection.recv(1 << 16)
        except OSError:
            return b""


def test_it_serves_nothing_but_itself_and_survives(room, serve, tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("root:secret")
    viewer = serve(images=room.root / "images")
    assert get(viewer, "/")[0] == 200
    ways = [
        "/../../../../../../etc/passwd",
        "/..%2f..%2f..%2f..%2f..%2fetc/passwd",
        "/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "//etc/passwd",
        "/assets/../../../../../../../../etc/passwd",
        f"/{secret}",
        "/..\\..\\..\\etc\\passwd",
        "/%00",
    ]
    for way in ways:
        assert b"root:" not in get(viewer, way)[1], way
        request = f"GET {way} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
        assert b"root:" not in raw(viewer, request), way
    for noise in (
        b"\x00\xff" * 500,
        b"GET",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\nx",
        b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        + b"\x82\xff" + b"\xff" * 2000,
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
    ):  # fmt: skip
        raw(viewer, noise)
    assert get(viewer, "/")[0] == 200


def test_a_client_that_vanishes(serve, browser, recorded):
    with RunFile(recorded) as run:
        viewer = serve(run)
        context = browser.new_context()
        tab = context.new_page()
        tab.goto(viewer.address)
        tab.get_by_text("references,").wait_for(timeout=60_000)
        context.close()
        viewer.run_panel.show_frame(1)
        page = Page(browser, viewer)
        page.wait(lambda: run[1].name in page.text())
        page.close()


def test_it_listens_where_it_is_told(serve):
    viewer = serve()
    assert viewer.address.startswith("http://127.0.0.1:")
    port = int(viewer.address.rsplit(":", 1)[1])
    with pytest.raises(OSError, match="refused"):
        socket.create_connection((own_address(), port), timeout=2)
    with pytest.raises(InputError, match="in use"):
        type(viewer)(viewer.pixmap, port=port)


def own_address():
    """Of this machine in its network; of loopback where it has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            address = probe.getsockname()[0]
        except OSError:
            address = "127.0.0.2"
    return "127.0.0.2" if address.startswith("127.") else address


def test_pictures_outside_of_their_folder_are_not_shown(serve, tmp_path, monkeypatch):
    outside = tmp_path / "outside.png"
    cv2.imwrite(str(outside), np.zeros((480, 640, 3), np.uint8))
    (tmp_path / "images").mkdir()
    viewer = serve(images=tmp_path / "images")
    camera = viewer.pixmap.cameras[0]
    for name in ("../outside.png", str(outside)):
        image, note = viewer.map_panel.picture(name, camera)
        assert image is None
        assert "leads out" in note
    assert "no such image" in viewer.map_panel.picture("a.png", camera)[1]


def test_many_points_are_thinned(room, serve, monkeypatch):
    sent = {}
    original = viser.SceneApi.add_point_cloud

    def watch(self, name, points, *arguments, **more):
        sent[name] = len(points)
        return original(self, name, points, *arguments, **more)

    monkeypatch.setattr(viser.SceneApi, "add_point_cloud", watch)
    serve(budget=500)
    assert sent["/map/points"] == 500


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["none.pixmap.h5"], "no such map file"),
        (["none.pixrun"], "No such file"),
        (["MAP", "--port", "99999"], "--port 99999"),
        (["MAP", "--images", "/nowhere"], "no such folder"),
        (["MAP", "--follow"], "are for a .pixrun"),
        (["MAP", "--points", "0"], "at least 1"),
        (["MAP", "--host", "203.0.113.7"], "203.0.113.7"),
    ],
)
def test_mistakes_get_one_line(room, capsys, more, message):
    arguments = [str(room.map_file) if word == "MAP" else word for word in more]
    assert main(["view", *arguments]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error


def test_the_command_serves_until_it_is_interrupted(room, recorded):
    command = [sys.executable, "-m", "pixloc_ros", "view", str(recorded), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        line = next(line for line in process.stdout if "until Ctrl-C" in line)
        address = re.search(r"http://\S+:\d+", line)[0]
        assert b"<html" in urllib.request.urlopen(address, timeout=10).read().lower()
        process.send_signal(2)
        assert process.wait(20) == 0
