"""Visual relocalization by feature-metric alignment, for ROS 2."""

__version__ = "0.1.0"
