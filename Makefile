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

.PHONY: demo test lint site browser format speed gpu clean

# dozens of processes are started: what Python compiles for the first is kept for the others
unexport PYTHONDONTWRITEBYTECODE

# uv installs in seconds what takes pip minutes, but does not read pip's configuration: where it is
# in the environment, uv is told the same
INSTALL := $(VENV)/bin/uv pip install --quiet --python $(RUN) -c constraints.txt
ifdef PIP_FIND_LINKS
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
endif
ifdef PIP_INDEX_URL
export UV_DEFAULT_INDEX ?= $(PIP_INDEX_URL)
endif
ifdef PIP_EXTRA_INDEX_URL
export UV_INDEX ?= $(PIP_EXTRA_INDEX_URL)
endif
ifdef PIP_CERT
export SSL_CERT_FILE ?= $(PIP_CERT)
endif

# what runs: the package, ROS 2, and what the demo needs
$(VENV)/ready: constraints.txt setup.py Makefile pixloc_ros/ros/tf2_messages.py
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet -c constraints.txt uv
	$(INSTALL) $(ROS_WHEELS) -e '.[demo]'
	$(RUN) -m pixloc_ros.ros.tf2_messages
	$(RUN) -m pixloc_ros.alignment.kernels
	touch $@

# what the tests, linters and training need beside it
$(VENV)/ready-to-test: $(VENV)/ready
	$(INSTALL) -e '.[demo,train,dev]'
	touch $@

demo: $(VENV)/ready
	$(RUN) -m pixloc_ros demo $(if $(PACK),--pack $(PACK))

# each process has one thread, and there is one more than cores, as tests of the node wait for it;
# a file's tests stay together and share what they made
test: lint site browser
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive $(RUN) -m pytest -n $$(($$(nproc) + 1)) \
	  --dist loadfile --no-loadscope-reorder

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

lint: $(VENV)/ready-to-test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

# the pages, README and what the code says of itself, as a web site; a warning is an error
site: $(VENV)/ready-to-test
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict

format: $(VENV)/ready-to-test
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

speed: $(VENV)/ready
	$(RUN) -m pixloc_ros speed

# what only a GPU can show: its tests, then every figure of doc/speed.md in one file
gpu: $(VENV)/ready-to-test
	$(RUN) -m pytest -m gpu
	$(RUN) -m pixloc_ros speed --device cuda --all --json gpu.json $(BENCH)

clean:
	rm -rf $(VENV) demo build site
