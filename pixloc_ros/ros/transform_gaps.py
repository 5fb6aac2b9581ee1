"""How evenly the node sends its transform while it works, beside a plain timer of rclpy.

python -m pixloc_ros.ros.transform_gaps --map FILE --image FILE [--hz R] [--busy N] [--hard]

A robot stands still before one image of the map. The node, a plain node with a timer of the same
rate, and some processes that never sleep share the machine.
"""

from __future__ import annotations

import argparse
import array
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticStatus
from nav_msgs.msg import Odometry
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image
from tf2_msgs.msg import TFMessage

from pixloc_ros.errors import InputError
from pixloc_ros.files import installed
from pixloc_ros.geometry import Camera, Pose
from pixloc_ros.mapping import PixMap
from pixloc_ros.ros.bridge import TransformBroadcaster
from pixloc_ros.ros.conversions import seconds, time_message, transform_stamped
from pixloc_ros.ros.qos import LATCHED
from pixloc_ros.ros.replay import end, environment
from pixloc_ros.sensors import read_image

RATE = 30.0
PLAIN = "beside"
NEVER_SLEEPS = "while True: pass"


class Plain(Node):
    """What any node with a timer reaches here: a transform at the node's rate."""

    def __init__(self) -> None:
        super().__init__("plain")
        self._broadcaster = TransformBroadcaster(self)
        self._pose = Pose.identity()
        self.create_timer(1.0 / RATE, self._send)

    def _send(self) -> None:
        stamp = self.get_clock().now().to_msg()
        self._broadcaster.send(transform_stamped(stamp, PLAIN, "timer", self._pose))


class Robot(Node):
    """Shows one image again and again, and notes when transforms were sent."""

    def __init__(self, images: Sequence[np.ndarray], camera: Camera, hz: float) -> None:
        super().__init__("robot")
        height, width = images[0].shape[:2]
        self._pictures = [self._message(shown) for shown in images]
        (fx, fy), (cx, cy) = camera.focal.tolist(), camera.centre.tolist()
        self._calibration = CameraInfo(width=width, height=height, distortion_model="plumb_bob")
        self._calibration.k = [fx, 0.0, cx - 0.5, 0.0, fy, cy - 0.5, 0.0, 0.0, 1.0]
        self._calibration.d = [float(v) for v in camera.distortion[:5]]
        self._images = self.create_publisher(Image, "image", 5)
        self._infos = self.create_publisher(CameraInfo, "camera_info", 5)
        self._odometry = self.create_publisher(Odometry, "odom", 50)
        mount = transform_stamped(time_message(0.0), "base_link", "optical", Pose.identity())
        self._static = self.create_publisher(TFMessage, "/tf_static", LATCHED)
        self._static.publish(TFMessage(transforms=[mount]))
        self.sent: dict[str, list[float]] = {"map": [], PLAIN: []}
        self.frames: list[dict[str, str]] = []
        self._shown = 0
        self.create_subscription(TFMessage, "/tf", self._on_transform, 500)
        self.create_subscription(DiagnosticStatus, "pixloc/status", self._on_status, 50)
        self.create_timer(0.02, self._tell)
        self.create_timer(1.0 / hz, self._show)

    @staticmethod
    def _message(image: np.ndarray) -> Image:
        height, width = image.shape[:2]
        message = Image(height=height, width=width, encoding="rgb8", step=3 * width)
        message.data = array.array("B", np.ascontiguousarray(image).tobytes())
        return message

    def _on_transform(self, message: TFMessage) -> None:
        for transform in message.transforms:
            if transform.header.frame_id in self.sent:
                self.sent[transform.header.frame_id].append(seconds(transform.header.stamp))

    def _on_status(self, message: DiagnosticStatus) -> None:
        self.frames.append({value.key: value.value for value in message.values})

    def _tell(self) -> None:
        message = Odometry(child_frame_id="base_link")
        message.header.frame_id = "odom"
        message.header.stamp = self.get_clock().now().to_msg()
        message.pose.pose.orientation.w = 1.0
        self._odometry.publish(message)

    def _show(self) -> None:
        stamp = self.get_clock().now().to_msg()
        picture = self._pictures[self._shown % len(self._pictures)]
        self._shown += 1
        for part in (self._calibration, picture):
            part.header.frame_id, part.header.stamp = "optical", stamp
        self._infos.publish(self._calibration)
        self._images.publish(picture)


def _spin(node: Node) -> None:
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    with suppress(ExternalShutdownException, KeyboardInterrupt):
        executor.spin()


def _row(name: str, stamps: Sequence[float], begun: float, lasted: float) -> str:
    kept = np.sort([stamp for stamp in stamps if begun <= stamp < begun + lasted])
    if len(kept) < 2:
        return f"{name:>12}  {len(kept) / lasted:8.1f}"
    gaps = 1e3 * np.diff(kept)
    p50, p99 = np.percentile(gaps, [50, 99])
    return f"{name:>12}  {len(kept) / lasted:8.1f}  {p50:8.1f}  {p99:8.1f}  {gaps.max():8.1f}"


def run(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m pixloc_ros.ros.transform_gaps")
    parser.add_argument("--map", type=Path, help="map file (.pixmap.h5)")
    parser.add_argument("--image", type=Path, help="one of its reference images")
    parser.add_argument("--hz", type=float, default=10.0, help="images a second (default 10)")
    parser.add_argument("--busy", type=int, default=0, help="processes that never sleep beside it")
    parser.add_argument(
        "--hard", action="store_true", help="show what is not in the map two times of three"
    )
    parser.add_argument("--seconds", type=float, default=30.0, help="(default 30)")
    parser.add_argument("--plain", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.plain:
        with rclpy.init(args=[]):
            _spin(Plain())
        return 0
    if given.map is None or given.image is None:
        parser.error("--map and --image are needed")
    for name in ("hz", "seconds"):
        if not 0 < getattr(given, name) < 1e4:
            parser.error(f"--{name} {getattr(given, name):g} is not in 0 to 10000")
    try:
        with PixMap(given.map) as pixmap:
            camera = pixmap.camera(0)
        image = read_image(given.image)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    os.environ.update(environment(1 + os.getpid() % 100, installed("config/fastdds.xml")))
    node = [sys.executable, "-m", "pixloc_ros", "localization_node", "--ros-args"]
    node += ["-p", f"map:={given.map}", "--log-level", "warn"]
    with ExitStack() as stack:
        stack.enter_context(rclpy.init(args=[]))
        # two of three images are of nothing that the map knows: each is searched for
        shown = [image, image[:, ::-1], image[:, ::-1]] if given.hard else [image]
        robot = Robot(shown, camera, given.hz)
        thread = threading.Thread(target=_spin, args=(robot,), daemon=True)
        thread.start()
        plain = [sys.executable, "-m", "pixloc_ros.ros.transform_gaps", "--plain"]
        for command in (node, plain):
            stack.callback(end, subprocess.Popen(command))
        deadline = time.monotonic() + 300
        while not (robot.sent["map"] and robot.sent[PLAIN]):
            if time.monotonic() > deadline:
                parser.error("no transform was sent")
            time.sleep(0.2)
        for _ in range(given.busy):
            stack.callback(subprocess.Popen([sys.executable, "-c", NEVER_SLEEPS]).kill)
        time.sleep(2.0)
        # the node's stamps are ahead by transform_tolerance
        ahead, begun, before = robot.sent["map"][-1] - time.time(), time.time(), len(robot.frames)
        time.sleep(given.seconds)
        frames = robot.frames[before:]
    print(f"{'':>12}  {'Hz':>8}  {'p50 ms':>8}  {'p99 ms':>8}  {'max ms':>8}")
    print(_row("map -> odom", robot.sent["map"], begun + ahead, given.seconds))
    print(_row("plain timer", robot.sent[PLAIN], begun, given.seconds))
    latency = [float(frame["latency_ms"]) for frame in frames] or [float("nan")]
    fixes = sum(frame["fix"] == "True" for frame in frames)
    p50, p99 = np.percentile(latency, [50, 99])
    print(
        f"{len(frames)} frames of {given.hz * given.seconds:.0f}, {fixes} fixes, latency p50 "
        f"{p50:.0f} ms, p99 {p99:.0f} ms"
    )
    return 0


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
