"""Visual relocalization by feature-metric alignment, for ROS 2."""

import os

# A robot's processor has other work. Threads of OpenMP, and of torch with it, that wait for each
# other would take all of it from who has something to do. OpenMP reads this once, when torch is
# imported; processes that are started from here inherit it.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"
