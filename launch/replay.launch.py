"""Plays a bag to the localization node, with its clock, and shows it in RViz.

ros2 launch pixloc_ros replay.launch.py map:=/path/to/place.pixmap.h5 bag:=/path/to/bag
"""

import os

from ament_index_python.packages import get_package_share_directory
from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    IncludeLaunchDescription,
    RegisterEventHandler,
    Shutdown,
)
from launch.conditions import IfCondition
from launch.event_handlers import OnProcessExit
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from launch import LaunchDescription

TOPICS = ("image", "camera_info", "odom", "image_transport", "odometry")


def generate_launch_description():
    """The node, the bag after it, and RViz on demand; all end with the bag."""
    share = get_package_share_directory("pixloc_ros")
    bag = ExecuteProcess(
        cmd=[
            *("ros2", "bag", "play", LaunchConfiguration("bag"), "--clock", "100"),
            # the node reads its map first
            *("--delay", LaunchConfiguration("delay"), "--rate", LaunchConfiguration("rate")),
        ],
        output="screen",
    )
    return LaunchDescription(
        [
            DeclareLaunchArgument("bag", description="recording with image, camera_info, odom"),
            *(
                DeclareLaunchArgument(name, default_value="", description=f"the bag's {name}")
                for name in TOPICS
            ),
            DeclareLaunchArgument("rate", default_value="1.0", description="speed of the replay"),
            DeclareLaunchArgument("delay", default_value="10.0", description="seconds before it"),
            DeclareLaunchArgument("namespace", default_value="", description="of all nodes"),
            DeclareLaunchArgument("rviz", default_value="false", description="show it in RViz"),
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(os.path.join(share, "launch/localize.launch.py")),
                launch_arguments={
                    "use_sim_time": "true",
                    "namespace": LaunchConfiguration("namespace"),
                    # the bag's names; those that are not given are the node's own
                    **{name: LaunchConfiguration(name) for name in TOPICS},
                }.items(),
            ),
            Node(
                package="rviz2",
                executable="rviz2",
                namespace=LaunchConfiguration("namespace"),
                arguments=["-d", os.path.join(share, "config/pixloc.rviz")],
                parameters=[{"use_sim_time": True}],
                condition=IfCondition(LaunchConfiguration("rviz")),
            ),
            bag,
            RegisterEventHandler(OnProcessExit(target_action=bag, on_exit=[Shutdown()])),
        ]
    )
