"""Starts the localization node.

ros2 launch pixloc_ros localize.launch.py map:=/path/to/place.pixmap.h5
"""

import os

from ament_index_python.packages import get_package_share_directory
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.substitutions import EnvironmentVariable, LaunchConfiguration
from launch_ros.actions import Node

from launch import LaunchDescription

CONFIG = os.path.join(get_package_share_directory("pixloc_ros"), "config")

# parameters that override params_file where they are given: name, kind, description
PARAMETERS = (
    ("map", str, "map file (.pixmap.h5), or a folder of them"),
    ("device", str, "auto, cpu or cuda"),
    ("autostart", bool, "false leaves configuring and activating to a lifecycle manager"),
    ("use_sim_time", bool, "follow /clock"),
    ("image_transport", str, "raw or compressed"),
    ("odometry", str, "topic, tf or none"),
)
# topics that can be named: what the node calls them, and what for
TOPICS = (
    ("image", "images; with image_transport:=compressed those of TOPIC/compressed"),
    ("camera_info", "their calibration"),
    ("odom", "odometry"),
    ("pose", "where the pose goes, for example amcl_pose"),
    ("initialpose", "where somebody says where the robot is"),
)


def _value(name, kind, text):
    if kind is not bool:
        return text
    if text.lower() not in ("true", "false"):
        raise ValueError(f"{name}:={text}: true or false")
    return text.lower() == "true"


def _node(context):
    def given(name):
        return LaunchConfiguration(name).perform(context)

    overrides = {
        name: _value(name, kind, given(name)) for name, kind, _ in PARAMETERS if given(name)
    }
    remappings = [(name, given(name)) for name, _ in TOPICS if given(name)]
    if given("tf"):
        remappings += [("/tf", given("tf")), ("/tf_static", given("tf") + "_static")]
    return [
        Node(
            package="pixloc_ros",
            executable="localization_node",
            name="pixloc",
            namespace=given("namespace"),
            output="screen",
            respawn=_value("use_respawn", bool, given("use_respawn")),
            respawn_delay=2.0,
            parameters=[given("params_file"), overrides],
            remappings=remappings,
            arguments=["--ros-args", "--log-level", given("log_level")],
        )
    ]


def _profile_variables():
    """What names a profile of Fast DDS: Kilted warns of the old name, Jazzy knows no other."""
    old, new = "FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE"
    distribution = os.environ.get("ROS_DISTRO", "")
    if distribution in ("humble", "iron", "jazzy"):
        return (old,)
    return (new,) if distribution else (old, new)


def generate_launch_description():
    """Arguments, the profile for large images, and the node.

    What is not given on the command line is as params_file says, or else the node's default.
    """
    profile = os.path.join(CONFIG, "fastdds.xml")
    as_given = [
        DeclareLaunchArgument(name, default_value="", description=about)
        for name, _, about in PARAMETERS
    ]
    as_given += [
        DeclareLaunchArgument(name, default_value="", description=f"topic: {about}")
        for name, about in TOPICS
    ]
    return LaunchDescription(
        [
            *as_given,
            DeclareLaunchArgument(
                "tf", default_value="", description="topic of transforms, for example tf"
            ),
            DeclareLaunchArgument(
                "params_file",
                default_value=os.path.join(CONFIG, "localize.yaml"),
                description="parameters of the node",
            ),
            DeclareLaunchArgument("namespace", default_value="", description="of node and topics"),
            DeclareLaunchArgument(
                "use_respawn", default_value="false", description="start again after a crash"
            ),
            DeclareLaunchArgument("log_level", default_value="info"),
            # raw images do not fit Fast DDS's default shared memory; a profile already set wins
            *(
                SetEnvironmentVariable(name, EnvironmentVariable(name, default_value=profile))
                for name in _profile_variables()
            ),
            OpaqueFunction(function=_node),
        ]
    )
