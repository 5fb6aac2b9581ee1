"""A local Ray cluster of two workers says what one process says."""

from __future__ import annotations

import os
import signal
import sqlite3
import sys

import miniature
import numpy as np
import pytest

from pixloc_ros.cli.main import main
from pixloc_ros.errors import InputError
from pixloc_ros.mapping import PixMap
from pixloc_ros.mapping.fleet import join_by_cluster
from pixloc_ros.mapping.health import Judgement, MapHealth
from pixloc_ros.ray_pool import spread
from pixloc_ros.worker_pool import Lost

ray = pytest.importorskip("ray", reason="needs the extra ray")


@pytest.fixture(scope="module")
def cluster():
    from ray.cluster_utils import Cluster

    # a module of tests cannot be imported by the workers
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    # Ray's workers make way for all other processes: beside other tests they would wait for long
    head = {"num_cpus": 1, "_system_config": {"worker_niceness": 0}}
    made = Cluster(initialize_head=True, head_node_args=head)
    made.add_node(num_cpus=1)
    yield made.address
    made.shutdown()


def doubled():
    return lambda task: 2 * task


def deadly(folder):
    """Dies over 3 always, over 5 the first time."""

    def prepare():
        def work(task):
            marker = os.path.join(folder, "died")
            if task == 3 or (task == 5 and not os.path.exists(marker)):
                open(marker, "w").close()
                os.kill(os.getpid(), signal.SIGKILL)
            return task + 100

        return work

    return prepare


def refusing():
    raise InputError("no map here")


def test_a_benchmark_on_the_cluster_is_that_of_one_process(cluster, room, tmp_path):
    mini, results = miniature.make("7Scenes", room, tmp_path), tmp_path / "one"
    arguments = [*mini.arguments(results), "--scenes", mini.part]
    assert main([str(a) for a in arguments]) == 0
    arguments[arguments.index("--eval_dir") + 1] = tmp_path / "ray"
    assert main([str(a) for a in [*arguments, "--ray", cluster, "--num_workers", 2]]) == 0
    name = "pixloc_7scenes_heads.txt"
    one, ray = (tmp_path / which / name for which in ("one", "ray"))
    assert one.read_bytes() == ray.read_bytes()


def threads():
    import torch

    return lambda task: torch.get_num_threads()


def test_a_map_of_the_cluster_is_that_of_one_process(cluster, room, tmp_path):
    assert dict(spread(threads, [0], 1, cluster)) == {0: 1}
    arguments = ["build_map", "--colmap", room.root / "sparse", "--images", room.root / "images"]
    arguments += ["--no-check"]
    maps = []
    for how in (["--processes", 0], ["--processes", 2, "--ray", cluster]):
        maps.append(tmp_path / f"{len(maps)}.pixmap.h5")
        assert main([str(a) for a in [*arguments, "--output", maps[-1], *how]]) == 0
    assert maps[0].read_bytes() == maps[1].read_bytes()


def test_what_a_fleet_found_is_joined_as_by_one_process(cluster, room, tmp_path):
    found = {}
    with PixMap(room.map_file) as pixmap:
        for robot in range(5):
            points, there = np.arange(100 * robot, 100 * robot + 150), np.arange(150) % 3 > 0
            path = tmp_path / f"{robot}.sqlite"
            with MapHealth(pixmap, path, f"robot {robot}") as health:
                for second in (0.0, 100.0):
                    few = np.array([robot, robot + 1])
                    by = np.full(150, robot)
                    health.add(Judgement(points, there, few, by, there), second)
        files = sorted(tmp_path.glob("*.sqlite"))
        for how in ("one", "ray"):
            with MapHealth(pixmap, tmp_path / how, how) as health:
                if how == "ray":
                    join_by_cluster(health, room.map_file, files, 2, cluster)
                else:
                    for file in files:
                        health.join(file)
                assert health.frames() == 10
            with sqlite3.connect(tmp_path / how) as file:
                tables = ("points", "sessions", "visits")
                found[how] = [sorted(file.execute(f"SELECT * FROM {t}")) for t in tables]
        assert found["one"] == found["ray"]
        assert len(found["one"][0]) == 750


def test_tasks_are_spread_over_the_cluster(cluster):
    assert dict(spread(doubled, list(range(7)), 2, cluster)) == {i: 2 * i for i in range(7)}


def test_a_worker_that_dies_is_replaced(cluster, tmp_path):
    answers = dict(spread(deadly(str(tmp_path)), list(range(8)), 2, cluster))
    assert isinstance(answers.pop(3), Lost)
    assert answers == {i: i + 100 for i in range(8) if i != 3}


def test_a_worker_that_cannot_begin_says_why(cluster):
    with pytest.raises(InputError, match="no map here"):
        list(spread(refusing, [1, 2], 2, cluster))


def test_a_cluster_that_is_away_is_one_line():
    for address in ("127.0.0.1:9", "ray://127.0.0.1:9"):
        with pytest.raises(InputError, match=f"--ray {address}: Connection refused"):
            list(spread(doubled, [1], 1, address))
