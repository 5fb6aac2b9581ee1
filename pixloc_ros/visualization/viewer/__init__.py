"""A map and what happened in it, in the web browser."""

from pixloc_ros.visualization.viewer.server import Viewer

__all__ = ["Viewer"]
