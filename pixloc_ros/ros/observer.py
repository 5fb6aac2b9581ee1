"""What the frames of a moment show, and where the robot was then."""

from __future__ import annotations

import time

from rclpy.impl.rcutils_logger import RcutilsLogger
from rclpy.time import Time
from std_msgs.msg import Header

from pixloc_ros.geometry import CameraError, Pose
from pixloc_ros.localization import FrameContext, View
from pixloc_ros.ros.bridge import TransformBuffer, TransformError, image_to_rgb
from pixloc_ros.ros.cameras import CameraImage
from pixloc_ros.ros.conversions import seconds
from pixloc_ros.ros.odometry import OdometryBuffer
from pixloc_ros.ros.parameters import NodeParameters
from pixloc_ros.sensors import ImageError, camera_of, frame_name, note_on, require_size


class Observer:
    """Brings images, calibration, mounts and odometry together."""

    def __init__(
        self,
        parameters: NodeParameters,
        transforms: TransformBuffer,
        odometry: OdometryBuffer,
        logger: RcutilsLogger,
    ) -> None:
        self._parameters, self._logger = parameters, logger
        self._transforms, self._odometry = transforms, odometry
        self._said: set[str] = set()

    def observe(
        self, frames: tuple[CameraImage, ...], wait: float
    ) -> tuple[list[View], FrameContext | None, str]:
        """Views and observation, and what is wrong with any of the frames.

        Cameras that cannot be used are left out; without any there is no observation. wait:
        seconds for odometry to reach the stamp.
        """
        views: list[View] = []
        observed: FrameContext | None = None
        reason = ""
        for frame in frames:
            header = frame.image.header
            try:
                camera = camera_of(frame.info, self._parameters.rectified)
                image = image_to_rgb(frame.image)
                require_size(camera, image.shape[1], image.shape[0])
                base_from_cam = self._mount(header, wait)
            except (CameraError, ImageError, TransformError) as error:
                reason = str(error)
                continue
            self._say_once(note_on(frame.info, self._parameters.rectified))
            if observed is None:
                observed = FrameContext(frame.stamp, base_from_cam, self._at(header, wait))
            cam_from_rig = base_from_cam.inverse() @ observed.base_from_cam
            views.append(View(image, camera, cam_from_rig))
        return views, observed, reason

    def _mount(self, header: Header, wait: float) -> Pose:
        """base_from_cam when the image was taken: a camera may pan, or lift with its mast.

        wait: seconds for the transforms of a moving mount to reach the stamp. Raises
        TransformError.
        """
        base, camera = self._parameters.base_frame_id, frame_name(header.frame_id)
        deadline = time.monotonic() + wait
        while True:
            try:
                return self._transforms.lookup(base, camera, header.stamp)
            except TransformError as error:
                try:
                    self._transforms.lookup(base, camera)
                except TransformError:
                    raise error from None  # whatever the time
                if time.monotonic() >= deadline:
                    raise TransformError(
                        f"{camera} is known on {base} at other times, not at the image's stamp: "
                        f"{error}"
                    ) from None
                time.sleep(0.01)

    def _say_once(self, note: str) -> None:
        if note and note not in self._said:
            self._said.add(note)
            self._logger.warning(note)

    def _at(self, header: Header, wait: float) -> Pose | None:
        if self._parameters.odometry == "topic":
            return self._odometry.at(seconds(header.stamp), wait)
        if self._parameters.odometry == "tf":
            return self._from_transforms(Time.from_msg(header.stamp), wait)
        return None

    def odometry_at(self, stamp: float) -> Pose | None:
        """Odometry at a stamp, as far as it is known now."""
        if self._parameters.odometry == "tf":
            return self._from_transforms(Time(nanoseconds=round(stamp * 1e9)), 0.0)
        return self._odometry.at(stamp, 0.0)

    def newest_odometry(self) -> Pose | None:
        """The last odometry there is."""
        if self._parameters.odometry == "tf":
            return self._from_transforms(None, 0.0)
        return self._odometry.newest

    def past_odometry(self, stamp: float) -> Pose | None:
        """Odometry at a stamp of the past, without waiting, or else the last there is."""
        pose = self.odometry_at(stamp)
        return self.newest_odometry() if pose is None else pose

    def _from_transforms(self, stamp: Time | None, wait: float) -> Pose | None:
        """odom_from_base from TF, at a stamp or the latest. Waiting is for the worker only."""
        p = self._parameters
        deadline = time.monotonic() + wait
        while True:
            try:
                when = None if stamp is None else stamp.to_msg()
                return self._transforms.lookup(p.odom_frame_id, p.base_frame_id, when)
            except TransformError as error:
                if time.monotonic() >= deadline:
                    if wait:
                        self._logger.warning(f"no odometry: {error}", throttle_duration_sec=5.0)
                    return None
                time.sleep(0.02)
