"""`video`: confidences and reprojections of a sequence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from tqdm import tqdm

from pixloc_ros.cli.options import CAMERA, Parser, network_of, parse_camera
from pixloc_ros.datasets.bag_files import is_recording
from pixloc_ros.datasets.bag_images import BagImages
from pixloc_ros.errors import InputError
from pixloc_ros.features import check_image, default_levels, extract_pyramid
from pixloc_ros.geometry import Camera
from pixloc_ros.left_out import LeftOut
from pixloc_ros.localization import Localizer, Prior, RunFile
from pixloc_ros.localization.run_file import SUFFIX as RUN_SUFFIX
from pixloc_ros.mapping import PixMap
from pixloc_ros.mapping.sfm import PICTURES, files_below
from pixloc_ros.sensors import ImageError, read_image
from pixloc_ros.visualization.features import draw_confidence
from pixloc_ros.visualization.overlay import draw_frame, draw_result
from pixloc_ros.visualization.video import VideoWriter


def _pictures(folder: Path) -> list[Path]:
    found = [p for p in files_below(folder) if p.suffix.lower() in (*PICTURES, ".webp")]
    if not found:
        raise InputError(f"{folder}: no images in it")
    return found


class _Source:
    """Images from a folder or a bag, and the camera that took them."""

    def __init__(self, path: Path, topic: str, stack: ExitStack) -> None:
        self._bag: BagImages | None = None
        self._files: list[Path] = []
        if not path.exists():
            raise InputError(f"{path}: no such folder of images, bag or run")
        if path.is_dir() and not is_recording(path):
            self._files = _pictures(path)
        else:
            self._bag = stack.enter_context(BagImages(path, topic))
        self.left_out = LeftOut("image") if self._bag is None else self._bag.left_out

    def __len__(self) -> int:
        return len(self._files) if self._bag is None else len(self._bag)

    def __iter__(self) -> Iterator[np.ndarray]:
        if self._bag is not None:
            for stamp, image in self._bag:
                try:
                    yield check_image(image)
                except ImageError as error:
                    self.left_out.add("not usable", f"at {stamp:.3f} s: {error}")
            return
        for file in self._files:
            try:
                yield check_image(read_image(file))
            except ImageError as error:
                self.left_out.add("not readable", str(error))

    def camera(self) -> Camera:
        if self._bag is None:
            raise InputError(f"--map needs --camera {CAMERA}")
        camera = self._bag.camera()
        for note in self._bag.notes:
            print(note)
        return camera


def make_parser() -> Parser:
    parser = Parser("video", "Write confidence.mp4, and reprojections.mp4 of a run or with a map.")
    parser.add_argument(
        "source", metavar="SOURCE", help=f"folder of images, bag, or a {RUN_SUFFIX}"
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="made where it is missing")
    parser.add_argument("--map", metavar="FILE", help="localize the images in it")
    parser.add_argument("--camera", metavar=CAMERA, help="(default: camera_info of the bag)")
    parser.add_argument("--topic", default="", help="of the bag's images")
    parser.add_argument("--fps", type=float, default=10.0, help="frames a second (default 10)")
    parser.add_argument("--level", type=int, default=-1, help="of the network's pyramid")
    parser.add_network()
    return parser


def run(arguments: Sequence[str]) -> int:
    given = make_parser().parse_args(arguments)
    if not 0.1 <= given.fps <= 1000:
        raise InputError(f"--fps {given.fps}: 0.1 to 1000")
    network = network_of(given).eval()
    levels = default_levels(network)
    if not -len(levels) <= given.level < len(levels):
        raise InputError(f"--level {given.level}: 0 to {len(levels) - 1}")
    wanted = [levels[given.level]]
    source, output = Path(given.source), Path(given.output)
    with ExitStack() as stack:
        runs = source.suffix == RUN_SUFFIX
        recorded = stack.enter_context(RunFile(source)) if runs else None
        images = _Source(source, given.topic, stack) if recorded is None else None
        localizer = None
        if given.map:
            if images is None:
                raise InputError("--map: a recorded run is localized already")
            camera = parse_camera(given.camera) if given.camera else images.camera()
            pixmap = stack.enter_context(PixMap(given.map))
            localizer = Localizer(pixmap, network)
        output.mkdir(parents=True, exist_ok=True)
        confidence = stack.enter_context(VideoWriter(output / "confidence.mp4", given.fps))
        shown = None
        if recorded is not None or localizer is not None:
            shown = stack.enter_context(VideoWriter(output / "reprojections.mp4", given.fps))
        if recorded is not None:
            for number in tqdm(range(len(recorded)), unit="image"):
                frame = recorded[number]
                image = frame.views[0].image
                pyramid = extract_pyramid(network, image, wanted)
                confidence.add(draw_confidence(image, pyramid.levels[0]))
                assert shown is not None
                shown.add(draw_frame(frame))
        else:
            assert images is not None
            prior = None
            for image in tqdm(images, total=len(images), unit="image"):
                pyramid = extract_pyramid(network, image, wanted)
                confidence.add(draw_confidence(image, pyramid.levels[0]))
                if localizer is not None and shown is not None:
                    answer = localizer.localize(image, camera, prior)
                    shown.add(draw_result([image], answer, answer.reason, answer.ok))
                    # the next image is near
                    prior = Prior(answer.cam_from_map) if answer.ok else None
            if images.left_out:
                print(images.left_out.as_text())
    written = [video for video in (confidence, shown) if video is not None]
    for video in written:
        print(f"{video.path}: {video.frames} frames")
    return 0
