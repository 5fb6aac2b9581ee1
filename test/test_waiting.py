"""Threads that wait for each other leave the processor to who has something to do."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from pixloc_ros.options import threads_beside_others

AFTER_A_PRODUCT = """
import time
import pixloc_ros
import torch
torch.set_num_threads(2)
left, right = torch.rand(512, 512), torch.rand(512, 512)
for _ in range(20):
    left @ right
used = time.process_time()
time.sleep(0.5)  # as between two images
print(time.process_time() - used)
"""


def run(code, **variables):
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_"))}
    return subprocess.run(
        [sys.executable, "-c", code],
        env=environment | variables,
        capture_output=True,
        text=True,
        check=True,
    )


def test_threads_sleep_while_they_wait():
    """Unless the user says otherwise."""
    asleep = float(run(AFTER_A_PRODUCT).stdout)
    assert asleep < 0.1
    assert float(run(AFTER_A_PRODUCT, OMP_WAIT_POLICY="ACTIVE").stdout) > asleep


@pytest.mark.parametrize(
    "module", ["pixloc_ros.cli.main", "pixloc_ros.worker_pool", "pixloc_ros.ros"]
)
def test_every_door_sets_it(module):
    code = f"import {module}, os; print(os.environ['OMP_WAIT_POLICY'])"
    assert run(code).stdout.strip() == "PASSIVE"


@pytest.mark.parametrize(("cores", "threads"), [(1, 1), (2, 2), (3, 2), (4, 3), (16, 15)])
def test_a_core_is_left_to_others_where_there_are_more_than_two(monkeypatch, cores, threads):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    monkeypatch.setattr(torch, "get_num_threads", lambda: cores)
    assert threads_beside_others() == threads
    # whoever limits torch limits the node
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert threads_beside_others() == 1
