"""A place that changes for weeks, and three maps of it: left alone, adapted, and made new.

`python -m pixloc_ros.evaluation.ageing_simulation --folder FOLDER --json days.json`
`python -m pixloc_ros.visualization.ageing days.json days.png` draws it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from pixloc_ros.datasets.changing_room import ChangingRoom
from pixloc_ros.datasets.rendered_room import (
    INTRINSICS,
    base_pose,
    mount,
    photograph,
    render_room,
)
from pixloc_ros.errors import InputError
from pixloc_ros.features import FeatureNetwork, open_network
from pixloc_ros.geometry import Camera, Pose
from pixloc_ros.localization import (
    Decision,
    FrameContext,
    MapSet,
    Moment,
    Pipeline,
    PoseEstimate,
    TrackerOptions,
    View,
)
from pixloc_ros.localization.learning import Learner
from pixloc_ros.mapping import build_map, read_colmap
from pixloc_ros.mapping.sources.refresh import POSES
from pixloc_ros.options import override

MAPS = ("static", "adapted", "refreshed")
DAY, LAP = 86_400.0, 40.0
"""Seconds between drives, and that one takes."""
START = (0.1, 0.1)
"""Standard deviations of where a drive is said to begin, metres and radians."""
DRIFT = 0.03
"""Standard deviation of the error of odometry, as a share of each step."""
WRONG = (0.1, 5.0)
"""A fix further off than this, in metres or degrees, is wrong."""


@dataclass(frozen=True)
class Drive:
    """One map on one day. fixes, wrong: of the frames; median_m: of right fixes; megabytes: of the
    map; sidecar_mb: of what is kept beside it.
    """

    map: str
    day: int
    frames: int
    fixes: int
    wrong: int
    median_m: float
    megabytes: float
    sidecar_mb: float


class Simulation:
    """A folder with the maps, and the room they are of."""

    def __init__(
        self,
        folder: Path,
        network: FeatureNetwork,
        references: int,
        seed: int,
        tracker: TrackerOptions | None = None,
    ) -> None:
        self._folder, self._network, self._tracker = folder, network, tracker
        self.room = ChangingRoom(seed)
        model, width, height, params = INTRINSICS
        self._camera = Camera.from_colmap(model, width, height, params)
        render_room(folder / "room", seconds=0.1, references=references, seed=seed)
        first = self._map("static")
        build_map(read_colmap(folder / "room/sparse"), folder / "room/images", first, network)
        for name in MAPS[1:]:
            shutil.copy(first, self._map(name))

    def _map(self, name: str) -> Path:
        return self._folder / f"{name}.pixmap.h5"

    def _views(self, frames: int) -> list[tuple[View, Pose]]:
        """Of today's drive, with their true cam_from_map."""
        random = np.random.default_rng(self.room.day)
        scene, light = self.room.scene(), self.room.light()
        begin = random.uniform(0, LAP / frames)
        found = []
        for time in begin + LAP * np.arange(frames) / frames:
            truth = mount().inverse() @ base_pose(float(time), random.uniform(0.9, 1.1)).inverse()
            image, _ = photograph(scene, self._camera, truth, random, None)
            lit = np.clip(image * light, 0, 255).astype(np.uint8)
            found.append((View(lit, self._camera), truth))
        return found

    def drive(self, frames: int) -> list[Drive]:
        """Today's drive, by each map."""
        views = self._views(frames)
        return [self._drive(name, views) for name in MAPS]

    def _drive(self, name: str, views: Sequence[tuple[View, Pose]]) -> Drive:
        random = np.random.default_rng(self.room.day)
        metres, wrong = [], 0
        kept = str(self._folder / "kept") if name == "refreshed" else ""
        learn = "none" if name == "static" else "adapt"
        morning = DAY * (1 + self.room.day)
        bases = [(truth.inverse() @ mount().inverse()) for _, truth in views]
        odometry = Pose.identity(dtype=torch.float64)
        with MapSet(self._map(name), self._network) as maps:
            learner = Learner(maps, learn, print, kept)
            pipeline = Pipeline(maps.localize_views, self._tracker)
            # the robot starts where it stood at night
            begin = torch.tensor(START).double().square().repeat_interleave(3).diag()
            pipeline.hint(PoseEstimate(morning, bases[0], begin, odometry, frame="map"))
            for number, (view, truth) in enumerate(views):
                stamp = morning + LAP / len(views) * number
                if number:
                    step = (bases[number - 1].inverse() @ bases[number]).log()
                    odometry = odometry @ Pose.exp(step * (1 + DRIFT * random.normal()))
                context = FrameContext(stamp, mount(), odometry)
                outcome = pipeline.process(Moment(context, [view]))
                if outcome.decision is Decision.FIX:
                    assert outcome.fix is not None
                    learner.add(outcome.estimate, [view], stamp)
                    found = (outcome.fix.map_from_base @ mount()).inverse()
                    away, radians = found.distance(truth)
                    if float(away) > WRONG[0] or float(torch.rad2deg(radians)) > WRONG[1]:
                        wrong += 1
                    else:
                        metres.append(float(away))
                elif outcome.decision is Decision.REFUSED and outcome.prior is not None:
                    learner.add_refusal(outcome.estimate, [view], outcome.prior, stamp)
            learner.close()
        beside = self._folder / f"{name}.health.sqlite"
        return Drive(
            name,
            self.room.day,
            len(views),
            len(metres) + wrong,
            wrong,
            float(np.median(metres)) if metres else float("nan"),
            self._map(name).stat().st_size / 2**20,
            beside.stat().st_size / 2**20 if beside.is_file() else 0.0,
        )

    def refresh(self) -> str:
        """Make the third map new by what was kept; what the command says last."""
        kept, new = self._folder / "kept" / "refreshed", self._folder / "new.pixmap.h5"
        if not (kept / POSES).is_file():
            return "nothing was kept"
        command = [sys.executable, "-m", "pixloc_ros", "build_map", "--refresh"]
        command += [str(self._map("refreshed")), "--images", str(kept), "--output", str(new)]
        done = subprocess.run(command, capture_output=True, text=True)
        shutil.rmtree(self._folder / "new.work", ignore_errors=True)
        if done.returncode:
            return done.stderr.strip().splitlines()[-1]
        new.replace(self._map("refreshed"))
        # names are times, so those of the next days are others
        kept.rename(self._folder / f"kept_until_{self.room.day}")
        return next(line for line in done.stdout.splitlines() if " references, " in line)


def _as_text(drives: Sequence[Drive], span: int) -> str:
    lines = [f"{'days':>9} {'map':10} {'frames':>7} {'fixes':>6} {'wrong':>6} {'mm':>6} {'MB':>6}"]
    last = max(drive.day for drive in drives)
    for begin in range(0, last + 1, span):
        for name in MAPS:
            own = [d for d in drives if d.map == name and begin <= d.day < begin + span]
            frames, fixes, wrong = (
                sum(getattr(d, k) for d in own) for k in ("frames", "fixes", "wrong")
            )
            error = 1e3 * float(np.nanmedian([d.median_m for d in own]))
            days = f"{begin}-{min(begin + span, last + 1) - 1}"
            lines.append(
                f"{days:>9} {name:10} {frames:7} {fixes / frames:6.0%} {wrong:6} {error:6.1f} "
                f"{own[-1].megabytes:6.1f}"
            )
    return "\n".join(lines)


def run(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m pixloc_ros.evaluation.ageing_simulation",
        description="Drive through a rendered room that changes from day to day.",
    )
    parser.add_argument("--folder", required=True, type=Path, metavar="DIR")
    parser.add_argument("--days", type=int, default=60)
    parser.add_argument("--frames", type=int, default=20, help="a day")
    parser.add_argument("--references", type=int, default=60)
    parser.add_argument("--every", type=int, default=10, help="days between refreshed maps")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="tracker settings, as motion.drift=0.03"
    )
    given = parser.parse_intermixed_args(arguments)
    try:
        tracker = override(TrackerOptions(), given.overrides)
        given.folder.mkdir(parents=True, exist_ok=True)
        simulation = Simulation(
            given.folder, open_network(None), given.references, given.seed, tracker
        )
        drives: list[Drive] = []
        for day in tqdm(range(given.days), unit="day"):
            drives += simulation.drive(given.frames)
            if day % given.every == given.every - 1:
                tqdm.write(f"day {day}: {simulation.refresh()}")
            simulation.room.sleep()
        print(_as_text(drives, given.every))
        if given.json:
            given.json.write_text(json.dumps([asdict(drive) for drive in drives], indent=1) + "\n")
    except (InputError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
