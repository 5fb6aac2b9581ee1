# The localization node on a processor; for a GPU use a CUDA base image and torch's CUDA wheels.
#   docker build -t pixloc_ros .
#   docker run --net=host --ipc=host -v $PWD/place.pixmap.h5:/map.pixmap.h5:ro pixloc_ros
FROM ros:kilted-ros-base

SHELL ["/bin/bash", "-o", "pipefail", "-c"]
WORKDIR /opt/pixloc

# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3-venv \
    && rm -rf /var/lib/apt/lists/*

COPY . src/pixloc_ros
# hadolint ignore=DL3013,DL3042,SC1091
RUN apt-get update \
    && rosdep update \
    && rosdep install -y --from-paths src --ignore-src \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv --system-site-packages venv \
    && touch venv/COLCON_IGNORE \
    && . venv/bin/activate \
    && pip install --no-cache-dir torch --index-url https://download.pytorch.org/whl/cpu \
    && pip install --no-cache-dir pycolmap omegaconf onnx onnxruntime \
    && . /opt/ros/kilted/setup.bash \
    && colcon build --packages-select pixloc_ros \
    && python3 -m pixloc_ros.alignment.kernels

ENTRYPOINT ["/bin/bash", "-c", ". /opt/pixloc/venv/bin/activate && . /opt/pixloc/install/setup.bash && exec \"$@\"", "--"]
CMD ["ros2", "launch", "pixloc_ros", "localize.launch.py", "map:=/map.pixmap.h5"]
