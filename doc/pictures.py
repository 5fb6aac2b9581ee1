"""Make the pictures of the pages from what `make demo` leaves behind.

    make demo && .venv/bin/python doc/pictures.py

What they show is rendered; the photographs on its walls are public domain or CC0.
"""

import shutil
from pathlib import Path

import cv2
from playwright.sync_api import sync_playwright

from pixloc_ros import Localizer, PixMap, open_network, read_image
from pixloc_ros.datasets.sequence import read_sequence
from pixloc_ros.visualization.overlay import draw_result
from pixloc_ros.visualization.viewer import Viewer

ROOT = Path(__file__).parents[1]
DEMO, PICTURES = ROOT / "demo", ROOT / "doc" / "pictures"
BROWSER = "chromium-headless-shell"


def answer(pixmap: PixMap) -> None:
    """One image of the drive with what its pose rests on."""
    sequence = read_sequence(DEMO / "room")
    frame = sequence.frames[40]
    image = read_image(sequence.images / frame.name)
    result = Localizer(pixmap, open_network(None)).localize(image, frame.camera)
    drawn = draw_result([image], result, f"FIX  {result.reason}", fixed=True)
    cv2.imwrite(str(PICTURES / "answer.jpg"), drawn[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])


def viewer(pixmap: PixMap) -> None:
    """The map in the web browser."""
    served = Viewer(pixmap, images=DEMO / "room" / "images", port=0)
    flags = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader"]
    flags += ["--enable-unsafe-swiftshader"]
    try:
        with sync_playwright() as play:
            browser = play.chromium.launch(executable_path=shutil.which(BROWSER), args=flags)
            page = browser.new_page(viewport={"width": 1280, "height": 720})
            page.goto(served.address)
            page.get_by_text("references,").wait_for(timeout=60_000)
            page.wait_for_timeout(4_000)
            # viser tells a browser without a GPU that it is slow
            hide = "document.querySelectorAll('[class*=Notification]').forEach(e => e.remove())"
            page.evaluate(hide)
            page.screenshot(path=str(PICTURES / "viewer.jpg"), type="jpeg", quality=80)
            browser.close()
    finally:
        served.close()


def main() -> None:
    PICTURES.mkdir(exist_ok=True)
    drive = cv2.imread(str(DEMO / "room.png"))
    cv2.imwrite(str(PICTURES / "drive.png"), drive, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    with PixMap(DEMO / "room.pixmap.h5") as pixmap:
        answer(pixmap)
        viewer(pixmap)


if __name__ == "__main__":
    main()
