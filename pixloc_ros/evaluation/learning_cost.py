"""What it costs, and what it changes, that a node learns of its map while it drives.

`python -m pixloc_ros.evaluation.learning_cost --map place.pixmap.h5 --queries FOLDER --near 0.1 5`

FOLDER holds `images/NAME`, `queries_with_intrinsics.txt` (hloc) and `gt_poses.txt`. The queries
are localized in their order, several times over, as on drives an hour apart, with each way to
learn; what is kept is thrown away.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from tqdm import tqdm

from pixloc_ros.errors import InputError
from pixloc_ros.evaluation.robustness import is_near, known_queries
from pixloc_ros.features import FeatureNetwork, open_network, read_image
from pixloc_ros.geometry import Camera, Pose
from pixloc_ros.localization import MapSet, View
from pixloc_ros.localization.learning import LEARN, SAME_VIEW, Learner
from pixloc_ros.mapping.health import REST, MapHealth, health_path


@dataclass(frozen=True)
class LearningCost:
    """What came out with one way to learn, in the last of the passes.

    right: answers near the truth; wrong: believed elsewhere. median_m, median_deg: of the right
    ones. learn_ms: median time of learning, a fix; kilobytes: of what lies beside the map, after
    all passes. gone: share of the points that are gone by it.
    """

    learn: str
    queries: int
    right: int
    wrong: int
    median_m: float
    median_deg: float
    learn_ms: float
    kilobytes: float
    gone: float


def learning_cost(
    map_file: Path,
    network: FeatureNetwork,
    learn: str,
    images: Path,
    queries: Mapping[str, Camera],
    truth: Mapping[str, Pose],
    near: tuple[float, float],
    passes: int,
) -> LearningCost:
    """Localize the queries without priors, and learn from every answer that is believed."""
    metres, degrees, wrong, milliseconds = [], [], 0, []
    with TemporaryDirectory() as folder:
        copy = Path(folder) / map_file.name
        os.symlink(map_file.resolve(), copy)
        with MapSet(copy, network) as maps:
            learner = Learner(maps, learn, lambda reason: print(f"{learn}: {reason}"))
            todo = [(number, name) for number in range(passes) for name in queries]
            for step, (number, name) in enumerate(tqdm(todo, unit="query", desc=learn)):
                if step % len(queries) == 0:
                    learner.look_again()
                views = [View(read_image(images / name), queries[name])]
                answer = maps.localize_views(views)
                if answer.ok:
                    begun = time.perf_counter()
                    learner.add(answer, views, SAME_VIEW * number + REST * step)
                    milliseconds.append(1e3 * (time.perf_counter() - begun))
                if number + 1 < passes or not answer.ok:
                    continue
                if not is_near(answer.cam_from_map, truth[name], near):
                    wrong += 1
                    continue
                away, turned = answer.cam_from_map.distance(truth[name])
                metres.append(float(away))
                degrees.append(float(np.degrees(float(turned))))
            learner.close()
            path, size, gone = health_path(copy), 0.0, 0.0
            if path.is_file():
                size = path.stat().st_size / 1024
                with MapHealth(maps.submap.localizer.map, path) as health:
                    gone = float(health.points().gone.mean())
    return LearningCost(
        learn,
        len(queries),
        len(metres),
        wrong,
        float(np.median(metres)) if metres else float("nan"),
        float(np.median(degrees)) if degrees else float("nan"),
        float(np.median(milliseconds)) if milliseconds else float("nan"),
        size,
        gone,
    )


def run(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m pixloc_ros.evaluation.learning_cost",
        description="Localize queries with every way to learn of the map, and compare.",
    )
    parser.add_argument("--map", required=True, type=Path, metavar="FILE")
    parser.add_argument("--queries", required=True, type=Path, metavar="DIR")
    parser.add_argument(
        "--near", nargs=2, type=float, default=(0.1, 5.0), metavar=("METRES", "DEGREES")
    )
    parser.add_argument("--passes", type=int, default=3, metavar="N", help="(default 3)")
    parser.add_argument("--json", metavar="FILE", help="the table as JSON")
    given = parser.parse_args(arguments)
    try:
        queries, truth = known_queries(given.queries)
        network = open_network(None)
        images, near = given.queries / "images", tuple(given.near)
        table = [
            learning_cost(given.map, network, learn, images, queries, truth, near, given.passes)
            for learn in LEARN
        ]
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for row in table:
        print(
            f"{row.learn:8} {row.right} of {row.queries} right, {row.wrong} wrong, median "
            f"{row.median_m:.4f} m {row.median_deg:.3f} deg, {row.gone:.2%} of the points "
            f"gone; {row.learn_ms:.1f} ms a fix, {row.kilobytes:.0f} kB"
        )
    if given.json:
        Path(given.json).write_text(json.dumps([asdict(row) for row in table], indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
