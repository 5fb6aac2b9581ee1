"""A robot in the rendered room, and a node that tells it where it is, over real DDS."""

from __future__ import annotations

import array
import gc
import threading
import time

import cv2
import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import PoseWithCovarianceStamped
from nav_msgs.msg import Odometry
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
from tf2_msgs.msg import TFMessage

from pixloc_ros.datasets.rendered_room import base_pose, make_room, mount
from pixloc_ros.features import read_image
from pixloc_ros.ros.conversions import time_message, transform_stamped
from pixloc_ros.ros.localization_node import start
from pixloc_ros.ros.node import LocalizationNode

LATCHED = QoSProfile(
    depth=1,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)


class Robot(Node):
    """Publishes frames of the rendered drive and collects what comes back."""

    def __init__(self, room, compressed=False, prefix=""):
        super().__init__("robot")
        self.frames, self.images = room.sequence.frames, room.sequence.images
        self.poses, self.transforms, self.diagnostics, self.clouds = [], [], [], []
        self.statuses = []
        kind, topic = (CompressedImage, "image/compressed") if compressed else (Image, "image")
        self.compressed, self.odometry_offset = compressed, 0.0
        self.image = self.create_publisher(kind, f"{prefix}{topic}", 5)
        self.info = self.create_publisher(CameraInfo, f"{prefix}camera_info", 5)
        self.second = None
        self.odometry = self.create_publisher(Odometry, "odom", 20)
        self.static = self.create_publisher(TFMessage, "/tf_static", LATCHED)
        self.mounts = [transform_stamped(time_message(0.0), "base_link", "optical", mount())]
        self.static.publish(TFMessage(transforms=self.mounts))
        self.create_subscription(PoseWithCovarianceStamped, "pose", self.poses.append, LATCHED)
        self.create_subscription(TFMessage, "/tf", self.on_transform, 50)
        self.create_subscription(
            DiagnosticArray, "/diagnostics", lambda m: self.diagnostics.extend(m.status), 10
        )
        self.create_subscription(
            DiagnosticStatus, "pixloc/status", lambda m: self.statuses.append(m), 10
        )
        self.create_subscription(PointCloud2, "pixloc/map_points", self.clouds.append, LATCHED)

    def on_transform(self, message):
        self.transforms += [t for t in message.transforms if t.header.frame_id == "map"]

    def add_camera(self, name, base_from_cam):
        """A second camera elsewhere on the robot, which the room is rendered for."""
        self.second = (
            self.create_publisher(Image, f"{name}/image", 5),
            self.create_publisher(CameraInfo, f"{name}/camera_info", 5),
            base_from_cam,
            make_room(7),
        )
        self.mounts.append(
            transform_stamped(time_message(0.0), "base_link", "optical_2", base_from_cam)
        )
        self.static.publish(TFMessage(transforms=self.mounts))

    def seen_from(self, lap, stamp, seed=7):
        """A picture, stamped as harness, from another place of the lap, or of another room."""
        pose = mount().inverse() @ base_pose(lap, 1.0).inverse()
        rgb = make_room(seed).render(self.frames[0].camera, pose)[0]
        message = Image(height=480, width=640, encoding="rgb8", step=1920)
        message.data = array.array("B", np.clip(rgb, 0, 255).astype(np.uint8).tobytes())
        message.header.frame_id, message.header.stamp = "optical", time_message(stamp)
        return message

    def drive_second(self, number, late, change=lambda rgb: rgb):
        """The second camera's picture of where the robot is `late` seconds after a frame.

        change: what has happened to it.
        """
        image, info, base_from_cam, scene = self.second
        stamp = self.frames[number].stamp + late
        pose = base_from_cam.inverse() @ base_pose(stamp - 100.0, 1.0).inverse()
        rgb = np.clip(scene.render(self.frames[0].camera, pose)[0], 0, 255).astype(np.uint8)
        message = Image(height=480, width=640, encoding="rgb8", step=1920)
        message.data = array.array("B", np.ascontiguousarray(change(rgb)).tobytes())
        calibration = self.camera_info(stamp)
        for part in (message, calibration):
            part.header.frame_id, part.header.stamp = "optical_2", time_message(stamp)
        info.publish(calibration)
        time.sleep(0.05)
        image.publish(message)

    def camera_info(self, stamp):
        message = CameraInfo(width=640, height=480, distortion_model="plumb_bob")
        message.header.frame_id, message.header.stamp = "optical", time_message(stamp)
        message.k = [520.0, 0.0, 319.5, 0.0, 520.0, 239.5, 0.0, 0.0, 1.0]
        return message

    def picture(self, number):
        frame = self.frames[number]
        rgb = read_image(self.images / frame.name)
        if self.compressed:
            data = cv2.imencode(".jpg", rgb[..., ::-1])[1].tobytes()
            message = CompressedImage(format="jpeg", data=array.array("B", data))
        else:
            message = Image(height=480, width=640, encoding="rgb8", step=1920)
            message.data = array.array("B", rgb.tobytes())
        message.header.frame_id = "optical"
        message.header.stamp = time_message(frame.stamp)
        return message

    def drive(self, number, odometry=True, image=None, info=None):
        """Publish one frame with what belongs to it."""
        stamp = self.frames[number].stamp
        if odometry:
            for at in (stamp - 0.05, stamp, stamp + 0.05):
                message = Odometry(child_frame_id="base_link")
                message.header.frame_id, message.header.stamp = "odom", time_message(at)
                # odometry that starts where the drive does
                pose = base_pose(0.0, 1.0).inverse() @ base_pose(at - 100.0, 1.0)
                transform = transform_stamped(
                    time_message(at), "odom", "base_link", pose
                ).transform
                position, rotation = message.pose.pose.position, transform.translation
                position.x, position.y, position.z = rotation.x, rotation.y, rotation.z
                position.x += self.odometry_offset
                message.pose.pose.orientation = transform.rotation
                self.odometry.publish(message)
        self.info.publish(info if info is not None else self.camera_info(stamp))
        time.sleep(0.05)
        self.image.publish(image if image is not None else self.picture(number))


class Harness:
    """A node and a robot, each spinning in a thread of its own."""

    latched = LATCHED

    def __init__(self, room, compressed=False, autostart=True, prefix=None, **parameters):
        settings = {"map": str(room.map_file), "autostart": autostart} | parameters
        arguments = ["--ros-args"]
        for name, value in settings.items():
            arguments += ["-p", f"{name}:={value}"]
        rclpy.init(args=arguments)
        self.node = LocalizationNode()
        if prefix is None:
            cameras = self.node.parameters.cameras
            prefix = f"{cameras[0]}/" if cameras else ""
        if autostart:
            start(self.node)
        self.robot = Robot(room, compressed, prefix)
        self.threads, self.executors = [], []
        for node in (self.node, self.robot):
            executor = SingleThreadedExecutor()
            executor.add_node(node)
            thread = threading.Thread(target=executor.spin, daemon=True)
            thread.start()
            self.executors.append(executor)
            self.threads.append(thread)
        if autostart:
            self.matched()
            self.wait(lambda: len(self.robot.clouds) == 1)

    def matched(self):
        """Wait until what the robot publishes is heard."""
        publishers = [self.robot.image, self.robot.info, *(self.robot.second or ())[:2]]
        if self.node.parameters.odometry == "topic":
            publishers.append(self.robot.odometry)
        self.wait(lambda: all(p.get_subscription_count() for p in publishers))

    def wait(self, condition, seconds=20.0):
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "timed out"
            time.sleep(0.01)

    def judged(self):
        journal = self.node.journal
        return journal.fixes + journal.refusals + journal.errors

    def step(self, number, **options):
        """Publish a frame and wait until the node has judged it."""
        before = self.judged()
        self.robot.drive(number, **options)
        self.wait(lambda: self.judged() > before)

    def status(self):
        """What ~/status said of the last frame."""
        self.wait(lambda: len(self.robot.statuses) >= self.node.journal.fixes)
        time.sleep(0.1)
        return {value.key: value.value for value in self.robot.statuses[-1].values}

    def end(self):
        for executor, thread in zip(self.executors, self.threads, strict=True):
            executor.shutdown()
            thread.join()
        self.node.close()
        self.node.destroy_node()
        self.robot.destroy_node()
        rclpy.shutdown()
        # rclpy gives the services of a lifecycle, and its part of DDS with them, back only with
        # the last reference: what is left of them hinders the next node of this name
        del self.node, self.robot, self.executors
        gc.collect()
