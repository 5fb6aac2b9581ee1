"""Features of images and what matches between them, in COLMAP's database."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pycolmap

from pixloc_ros.errors import require_room
from pixloc_ros.geometry import Pose
from pixloc_ros.identity import identity_of_files
from pixloc_ros.mapping.frame import SEED
from pixloc_ros.mapping.sfm.mapper import Matched
from pixloc_ros.mapping.sfm.workspace import SfmWorkspace, first_line
from pixloc_ros.mapping.sparse_model import ModelError

EXHAUSTIVE = 60
"""Images up to which every one is matched with every other."""

IMAGE_BYTES = 2 * 2**20
"""Of features and matches of an image in COLMAP's database, at most about."""

PARTNERS = 20
"""Of more images, with how many each is matched."""


@dataclass(frozen=True)
class LocalFeatures:
    """Of another program. keypoints: (n, 2) of each image, COLMAP's pixels. matches: (m, 2)
    numbers of keypoints, of pairs of images.
    """

    keypoints: Mapping[str, np.ndarray]
    matches: Mapping[tuple[str, str], np.ndarray]


def prepare(workspace: SfmWorkspace, facts: Mapping[str, object]) -> Prepared:
    """List the images in the database, unless that was done.

    What was done before for other images, cameras or facts is thrown away. Raises ModelError.
    """
    listed = identity_of_files(workspace.images, workspace.names)
    cameras = [[key, names] for key, (names, _) in workspace.groups.items()]
    identity = json.dumps([listed, cameras, dict(facts)], sort_keys=True)
    kept = workspace.folder / "made_from.json"
    if not kept.is_file() or kept.read_text() != identity:
        workspace.clear()
    workspace.folder.mkdir(parents=True, exist_ok=True)
    kept.write_text(identity)
    if not workspace.has_model:
        _list_images(workspace)
    return Prepared(workspace)


def _list_images(workspace: SfmWorkspace) -> None:
    database = workspace.database
    # COLMAP ends the program where the disk is full
    require_room(workspace.folder, IMAGE_BYTES * len(workspace.names))
    try:
        with pycolmap.Database.open(database) as opened:
            listed_before = {image.name for image in opened.read_all_images()}
        if listed_before == set(workspace.names):
            return
        # numbered before extraction, whose threads are done in any order, and all at once
        workspace.clear()
        pycolmap.Database.open(database).close()
        for names, options in workspace.groups.values():
            given = (database, workspace.images, pycolmap.CameraMode.SINGLE, names)
            pycolmap.import_images(*given, options=options)
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"{workspace.images}: {first_line(error)}") from None


@dataclass(frozen=True)
class Prepared:
    """A workspace whose images are listed."""

    workspace: SfmWorkspace

    def match(
        self, apart: Callable[[], np.ndarray], known: LocalFeatures | None = None
    ) -> Matched:
        """Extract features of all images, and match them.

        apart: how unlikely each two are to show the same, (n, n), infinite for never; asked for
        where there are too many images to match all. known: features and matches of another
        program, instead of SIFT. Raises ModelError.
        """
        work = self.workspace
        if work.has_model:
            return Matched(work)
        verification = pycolmap.TwoViewGeometryOptions()
        verification.ransac.random_seed = SEED
        try:
            if known is None:
                for names, options in work.groups.values():
                    given = (work.database, work.images, names, pycolmap.CameraMode.SINGLE)
                    pycolmap.extract_features(*given, reader_options=options)
                if len(work.names) <= EXHAUSTIVE:
                    pycolmap.match_exhaustive(work.database, verification_options=verification)
                else:
                    self._match_nearest(apart(), verification)
            else:
                self._import(known)
                listed = self._list_pairs(known.matches)
                pycolmap.verify_matches(work.database, listed, verification)
        except (RuntimeError, ValueError) as error:
            raise ModelError(f"{work.images}: matching failed: {first_line(error)}") from None
        return Matched(work)

    def _import(self, known: LocalFeatures) -> None:
        with pycolmap.Database.open(self.workspace.database) as database:
            numbers = {image.name: image.image_id for image in database.read_all_images()}
            database.clear_keypoints()
            database.clear_matches()
            database.clear_two_view_geometries()
            for name, keypoints in known.keypoints.items():
                database.write_keypoints(numbers[name], keypoints)
            for (one, other), matches in known.matches.items():
                database.write_matches(numbers[one], numbers[other], matches)

    def _match_nearest(
        self, apart: np.ndarray, verification: pycolmap.TwoViewGeometryOptions
    ) -> None:
        names = self.workspace.names
        pairs = set()
        for number, row in enumerate(apart):
            near = [int(i) for i in np.argsort(row, kind="stable") if i != number]
            near = [i for i in near if np.isfinite(row[i])][:PARTNERS]
            pairs |= {(min(number, i), max(number, i)) for i in near}
        listed = self._list_pairs((names[a], names[b]) for a, b in sorted(pairs))
        options = pycolmap.ImportedPairingOptions(match_list_path=str(listed))
        pycolmap.match_image_pairs(
            self.workspace.database, pairing_options=options, verification_options=verification
        )

    def _list_pairs(self, pairs: Iterable[tuple[str, str]]) -> Path:
        listed = self.workspace.folder / "pairs.txt"
        listed.write_text("".join(f"{one} {other}\n" for one, other in pairs))
        return listed


def apart_by_poses(poses: Sequence[Pose]) -> np.ndarray:
    """How far cam_from_map poses are from showing the same: steps between them, (n, n).

    Infinite where they look more than 75 degrees apart.
    """
    centres = np.stack([pose.inverse().translation.numpy() for pose in poses])
    axes = np.stack([pose.rotation[2].numpy() for pose in poses])
    metres = np.linalg.norm(centres[:, None] - centres[None], axis=-1)
    degrees = np.degrees(np.arccos(np.clip(axes @ axes.T, -1, 1)))
    step = max(float(np.median(np.partition(metres, 1, axis=1)[:, 1])), 1e-6)
    return np.where(degrees > 75, np.inf, metres / step + degrees / 10)
