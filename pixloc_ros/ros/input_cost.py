"""What odometry and transforms cost the thread that receives them, beside making the messages.

python -m pixloc_ros.ros.input_cost [--joints N]
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

from geometry_msgs.msg import TransformStamped
from nav_msgs.msg import Odometry
from tf2_msgs.msg import TFMessage

from pixloc_ros.ros.bridge import TransformStore
from pixloc_ros.ros.conversions import time_message
from pixloc_ros.ros.odometry import OdometryBuffer

MESSAGES, ROUNDS, RATE = 2000, 5, 1000.0


def _odometry(number: int) -> Odometry:
    message = Odometry()
    message.header.stamp = time_message(100 + number / RATE)
    message.header.frame_id, message.child_frame_id = "odom", "base_link"
    message.pose.pose.position.x = number * 1e-3
    message.pose.pose.orientation.w = 1.0
    return message


def _transforms(number: int, joints: int) -> TFMessage:
    message = TFMessage()
    for joint in range(joints):
        transform = TransformStamped()
        transform.header.stamp = time_message(100 + number / RATE)
        transform.header.frame_id = "base_link"
        transform.child_frame_id = f"joint_{joint}"
        transform.transform.rotation.w = 1.0
        message.transforms.append(transform)
    return message


def _microseconds(make: Callable[[int], Any], take: Callable[[Any], None], count: int) -> tuple:
    """Processor time to make a message and to take it in, the medians of several rounds."""
    making, taking = [], []
    for part in range(ROUNDS):
        begun = time.process_time()
        messages = [make(part * count + number) for number in range(count)]
        made = time.process_time()
        for message in messages:
            take(message)
        making.append(1e6 * (made - begun) / count)
        taking.append(1e6 * (time.process_time() - made) / count)
    return median(making), median(taking)


def run(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m pixloc_ros.ros.input_cost")
    parser.add_argument("--joints", type=int, default=100, help="frames of a /tf message")
    given = parser.parse_args(arguments)
    if not 1 <= given.joints <= 10_000:
        parser.error(f"--joints {given.joints} is not in 1 to 10000")
    buffer, store = OdometryBuffer("odom", "base_link", 10.0), TransformStore(10.0)
    made, taken = _microseconds(_odometry, buffer.add, MESSAGES)
    print(f"odometry            {taken:8.1f} us a message, {taken / made:.2f} of making it")
    joints = given.joints
    made, taken = _microseconds(
        lambda number: _transforms(number, joints), store.add, max(MESSAGES // joints, 20)
    )
    print(f"/tf of {joints:<5} frames {taken:8.1f} us a message, {taken / made:.2f} of making it")
    return 0


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
