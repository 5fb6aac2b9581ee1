"""The inner step of alignment, one implementation a backend, all with equal results."""

from pixloc_ros.alignment.kernels.reference import linearize

__all__ = ["linearize"]
