# `make demo` and `make test` set everything up by themselves, in .venv.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
# the directory that holds reference numbers and packs of real images, when there is one
export PIXLOC_SHARED ?= $(abspath ../shared)

# ROS 2 without a distribution: the real rclpy and Fast DDS from PyPI, and the generators with
# which the one message package that PyPI lacks, tf2_msgs, is built
ROS_WHEELS := ros-kilted-rclpy ros-kilted-rmw-fastrtps-cpp ros-kilted-common-interfaces \
  ros-kilted-diagnostic-msgs ros-kilted-lifecycle-msgs ros-kilted-rosidl-default-generators \
  ros-kilted-rosidl-core-generators catkin_pkg

.PHONY: demo test lint browser format bench gpu clean

$(VENV)/ready: constraints.txt setup.py Makefile pixloc_ros/ros/tf2_messages.py
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --upgrade pip
	$(VENV)/bin/pip install --quiet -c constraints.txt $(ROS_WHEELS) -e '.[demo,train,dev]'
	$(RUN) -m pixloc_ros.ros.tf2_messages
	touch $@

demo: $(VENV)/ready
	$(RUN) -m pixloc_ros demo $(if $(PACK),--pack $(PACK))

# one process a core, each with one thread; a file's tests stay together and share what they made
test: lint browser
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive $(RUN) -m pytest -n auto --dist loadfile \
	  --no-loadscope-reorder

# the viewer is tested in Chromium; where there is none, and no right to install it, those tests
# are skipped
browser:
	@for name in chromium-headless-shell chromium chromium-browser google-chrome; do \
	  if command -v $$name >/dev/null; then exit 0; fi; \
	done; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  apt-get install -qq -y chromium-headless-shell >/dev/null 2>&1 || { \
	    apt-get update -qq && apt-get install -qq -y chromium-headless-shell >/dev/null; \
	  } || echo "no Chromium: the viewer is not tested"; \
	fi

lint: $(VENV)/ready
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

format: $(VENV)/ready
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

bench: $(VENV)/ready
	$(RUN) -m pixloc_ros bench

# what only a GPU can show: its tests, then every figure of doc/speed.md in one file
gpu: $(VENV)/ready
	$(RUN) -m pytest -m gpu
	$(RUN) -m pixloc_ros bench --device cuda --all --json gpu.json $(BENCH)

clean:
	rm -rf $(VENV) demo build
