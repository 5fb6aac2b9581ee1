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

.PHONY: demo test lint format bench clean

$(VENV)/ready: constraints.txt setup.py Makefile pixloc_ros/ros/tf2_messages.py
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --upgrade pip
	$(VENV)/bin/pip install --quiet -c constraints.txt $(ROS_WHEELS) -e '.[demo,train,dev]'
	$(RUN) -m pixloc_ros.ros.tf2_messages
	touch $@

demo: $(VENV)/ready
	$(RUN) -m pixloc_ros demo $(if $(PACK),--pack $(PACK))

test: lint
	$(RUN) -m pytest

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

clean:
	rm -rf $(VENV) demo build
