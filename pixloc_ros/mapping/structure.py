"""Structure from motion by COLMAP: from images, or from images whose poses are known.

Everything lies in a work folder, where an interrupted run finds what was done: features and
matches in COLMAP's database, the model in `sparse` once it is whole. For other images it begins
anew.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pycolmap

from pixloc_ros.datasets.exif_gps import read_gps
from pixloc_ros.errors import require_room
from pixloc_ros.geometry import Camera, CameraError, Pose
from pixloc_ros.identity import identity_of_files
from pixloc_ros.left_out import LeftOut
from pixloc_ros.mapping.frame import LEAST, SEED, to_positions
from pixloc_ros.mapping.sparse_model import ModelError
from pixloc_ros.sensors import ImageError, read_image, require_size

EXHAUSTIVE = 60
"""Images up to which every one is matched with every other."""

IMAGE_BYTES = 2 * 2**20
"""Of features and matches of an image in COLMAP's database, at most about."""

MISPLACED = 0.3
"""Share of the usual, of matches that became points, below which an image stands wrong."""

PARTNERS = 20
"""Of more images, with how many each is matched."""

PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff")
"""Images that COLMAP reads."""

OTHERS = (
    *(".webp", ".heic", ".heif", ".avif", ".jp2", ".gif", ".ppm", ".pgm", ".jxl", ".exr"),
    *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".raw"),
)
"""Images that it does not read, or not everywhere."""


@dataclass(frozen=True)
class Registration:
    """How structure from motion went; images: in all, with those that could not be used."""

    images: int
    registered: int
    points: int
    track_length: float
    reprojection_px: float

    def as_text(self) -> str:
        return (
            f"{self.registered} of {self.images} images registered, {self.points} points seen by "
            f"{self.track_length:.1f} images, reprojection error {self.reprojection_px:.2f} px"
        )


@dataclass(frozen=True)
class LocalFeatures:
    """Of another program. keypoints: (n, 2) of each image, COLMAP's pixels. matches: (m, 2)
    numbers of keypoints, of pairs of images.
    """

    keypoints: Mapping[str, np.ndarray]
    matches: Mapping[tuple[str, str], np.ndarray]


def find_images(folder: Path, camera: Camera | None = None) -> tuple[list[str], LeftOut]:
    """Names of the images below a folder that can be read, and what was left out.

    Of files with the same content the first is taken. camera: which took them all, if known:
    others than of its size are left out. Raises ModelError where too few are left.
    """
    if not folder.is_dir():
        raise ModelError(f"{folder}: no such folder of images")
    names: list[str] = []
    left_out = LeftOut("image")
    seen: dict[str, str] = {}
    for path in files_below(folder):
        name = path.relative_to(folder).as_posix()
        reason = unfit(name)
        if reason or path.suffix.lower() not in PICTURES:
            if reason:
                left_out.add(reason, str(path))
            continue
        try:
            height, width = read_image(path).shape[:2]
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            if camera is not None:
                require_size(camera, width, height, str(path))
        except ImageError as error:
            left_out.add("not readable", str(error))
            continue
        except CameraError as error:
            left_out.add("of another size than the camera", str(error))
            continue
        if digest in seen:
            left_out.add("the same picture as another", f"{path} is {seen[digest]}")
            continue
        seen[digest] = name
        names.append(name)
    if len(names) < LEAST:
        why = f" ({left_out.most})" if left_out else ""
        raise ModelError(f"{folder}: {len(names)} images to map with, {LEAST} are needed{why}")
    return names, left_out


def files_below(folder: Path) -> list[Path]:
    """All files of a folder, in the order of names, through links to folders as well."""
    found, seen = [], set()
    for root, folders, files in os.walk(folder, followlinks=True):
        place = os.path.realpath(root)
        if place in seen:  # a link to a folder above it
            folders.clear()
            continue
        seen.add(place)
        found += [Path(root) / file for file in files]
    return sorted(found)


def unfit(name: str) -> str:
    """Why COLMAP cannot have an image of this name, or an empty string."""
    if Path(name).suffix.lower() in OTHERS:
        return "of a format that COLMAP does not read (JPEG, PNG, BMP and TIFF are read)"
    if len(name.split()) > 1 and Path(name).suffix.lower() in PICTURES:
        return "with a space in the name, which COLMAP's lists cannot have"
    return ""


def _reader(camera: Camera) -> pycolmap.ImageReaderOptions:
    found = camera.colmap()
    if found is None:
        raise ModelError("COLMAP has no model for this camera; undistort its images first")
    options = pycolmap.ImageReaderOptions()
    options.camera_model, params = found
    options.camera_params = ",".join(f"{v:.12g}" for v in params)
    return options


def _repeatable() -> pycolmap.IncrementalPipelineOptions:
    """One thread and one seed: the same images give the same model, interrupted or not."""
    options = pycolmap.IncrementalPipelineOptions()
    options.random_seed, options.num_threads = SEED, 1
    return options


class SfmWorkspace:
    """A work folder. images: the folder they are in; names: those to use. cameras: of each of
    them, where they are known; else COLMAP finds them, one for all images of a size.
    """

    def __init__(
        self,
        folder: Path,
        images: Path,
        names: Sequence[str],
        cameras: Mapping[str, Camera] | None = None,
    ) -> None:
        self.folder, self._images, self._names = folder, images, list(names)
        self.database, self.sparse = folder / "database.db", folder / "sparse"
        self._known = cameras is not None
        # numbers of a camera -> the names of its images, and how COLMAP reads them
        self._groups: dict[str, tuple[list[str], pycolmap.ImageReaderOptions]] = {}
        for name in self._names:
            camera = None if cameras is None else cameras[name]
            key = "" if camera is None else f"{camera.lens} {camera.numbers().tolist()}"
            if key not in self._groups:
                options = pycolmap.ImageReaderOptions() if camera is None else _reader(camera)
                self._groups[key] = ([], options)
            self._groups[key][0].append(name)
        self._mode = pycolmap.CameraMode.SINGLE if self._known else pycolmap.CameraMode.AUTO
        pycolmap.logging.minloglevel = pycolmap.logging.Level.ERROR.value

    def prepare(self, facts: Mapping[str, object]) -> None:
        """Keep what was done for the same images and facts, throw away anything else, and list
        the images.
        """
        listed = identity_of_files(self._images, self._names)
        cameras = [[key, names] for key, (names, _) in self._groups.items()]
        identity = json.dumps([listed, cameras, dict(facts)], sort_keys=True)
        kept = self.folder / "made_from.json"
        if not kept.is_file() or kept.read_text() != identity:
            self._throw_away()
        self.folder.mkdir(parents=True, exist_ok=True)
        kept.write_text(identity)
        if not self.sparse.is_dir():
            self._list_images()

    def _list_images(self) -> None:
        # COLMAP ends the program where the disk is full
        require_room(self.folder, IMAGE_BYTES * len(self._names))
        try:
            with pycolmap.Database.open(self.database) as database:
                listed_before = {image.name for image in database.read_all_images()}
            if listed_before == set(self._names):
                return
            # numbered before extraction, whose threads are done in any order, and all at once
            self._throw_away()
            pycolmap.Database.open(self.database).close()
            for names, options in self._groups.values():
                given = (self.database, self._images, self._mode, names)
                pycolmap.import_images(*given, options=options)
        except (RuntimeError, ValueError) as error:
            raise ModelError(f"{self._images}: {_reason(error)}") from None

    def _throw_away(self) -> None:
        shutil.rmtree(self.sparse, ignore_errors=True)
        for file in self.folder.glob("database.db*"):
            file.unlink()

    def match(self, apart: Callable[[], np.ndarray], known: LocalFeatures | None = None) -> None:
        """Features of all images, and what matches between them.

        apart: how unlikely each two are to show the same, (n, n), infinite for never; asked for
        where there are too many images to match all. known: features and matches of another
        program, instead of SIFT.
        """
        if self.sparse.is_dir():
            return
        verification = pycolmap.TwoViewGeometryOptions()
        verification.ransac.random_seed = SEED
        try:
            if known is not None:
                self._import(known, verification)
                return
            for names, options in self._groups.values():
                given = (self.database, self._images, names, self._mode)
                pycolmap.extract_features(*given, reader_options=options)
            if len(self._names) <= EXHAUSTIVE:
                pycolmap.match_exhaustive(self.database, verification_options=verification)
            else:
                self._match_nearest(apart(), verification)
        except (RuntimeError, ValueError) as error:
            raise ModelError(f"{self._images}: matching failed: {_reason(error)}") from None

    def _import(self, known: LocalFeatures, verification: pycolmap.TwoViewGeometryOptions) -> None:
        with pycolmap.Database.open(self.database) as database:
            numbers = {image.name: image.image_id for image in database.read_all_images()}
            database.clear_keypoints()
            database.clear_matches()
            database.clear_two_view_geometries()
            for name, keypoints in known.keypoints.items():
                database.write_keypoints(numbers[name], keypoints)
            for (one, other), matches in known.matches.items():
                database.write_matches(numbers[one], numbers[other], matches)
        listed = self.folder / "pairs.txt"
        listed.write_text("".join(f"{one} {other}\n" for one, other in known.matches))
        pycolmap.verify_matches(self.database, listed, verification)

    def positions_by_gps(self) -> dict[str, np.ndarray]:
        """Metres east, north and up of the first image, of those that say where they were taken;
        see `exif_gps.read_gps`.
        """
        return read_gps(self._images, self._names)

    def _match_nearest(
        self, apart: np.ndarray, verification: pycolmap.TwoViewGeometryOptions
    ) -> None:
        pairs = set()
        for number, row in enumerate(apart):
            near = [int(i) for i in np.argsort(row, kind="stable") if i != number]
            near = [i for i in near if np.isfinite(row[i])][:PARTNERS]
            pairs |= {(min(number, i), max(number, i)) for i in near}
        listed = self.folder / "pairs.txt"
        listed.write_text(
            "".join(f"{self._names[a]} {self._names[b]}\n" for a, b in sorted(pairs))
        )
        options = pycolmap.ImportedPairingOptions(match_list_path=str(listed))
        pycolmap.match_image_pairs(
            self.database, pairing_options=options, verification_options=verification
        )

    def map_images(self) -> pycolmap.Reconstruction:
        """Poses and points from the matches alone; the frame is arbitrary.

        Raises ModelError where the images do not hang together.
        """
        if not self.sparse.is_dir():
            partial = self._partial()
            options = _repeatable()
            if self._known:
                options.ba_refine_focal_length = options.ba_refine_extra_params = False
            models = pycolmap.incremental_mapping(self.database, self._images, partial, options)
            if not models:
                raise ModelError(
                    f"{self._images}: no two images overlap enough to begin a model with"
                )
            best = max(models.values(), key=lambda m: m.num_reg_images())
            if take_out_misplaced(best, self.database):
                best = self._again(best, options)
            self._keep(best)
        return pycolmap.Reconstruction(str(self.sparse))

    def _again(
        self, model: pycolmap.Reconstruction, options: pycolmap.IncrementalPipelineOptions
    ) -> pycolmap.Reconstruction:
        """Give the images that were taken out another chance, now that the others stand."""
        begin = self.folder / "sparse.begin"
        shutil.rmtree(begin, ignore_errors=True)
        begin.mkdir()
        model.write_binary(str(begin))
        models = pycolmap.incremental_mapping(
            self.database, self._images, self._partial(), options, input_path=begin
        )
        shutil.rmtree(begin, ignore_errors=True)
        best = max([model, *models.values()], key=lambda m: m.num_reg_images())
        take_out_misplaced(best, self.database)
        return best

    def triangulate(self, poses: Mapping[str, Pose]) -> pycolmap.Reconstruction:
        """Points from known cam_from_map poses of all images. Raises ModelError without any."""
        if not self.sparse.is_dir():
            posed = self._posed(poses)
            partial = self._partial()
            made = pycolmap.triangulate_points(
                posed, self.database, self._images, partial, options=_repeatable()
            )
            if made.num_points3D() == 0:
                raise ModelError(
                    f"{self._images}: no point is seen alike in two images from their poses; are "
                    "poses, frames and calibration right?"
                )
            self._keep(made)
        return pycolmap.Reconstruction(str(self.sparse))

    def registration(self, model: pycolmap.Reconstruction, skipped: int) -> Registration:
        """skipped: images that were left out."""
        return Registration(
            len(self._names) + skipped,
            model.num_reg_images(),
            model.num_points3D(),
            model.compute_mean_track_length(),
            model.compute_mean_reprojection_error(),
        )

    def _posed(self, poses: Mapping[str, Pose]) -> pycolmap.Reconstruction:
        with pycolmap.Database.open(self.database) as database:
            cameras, images = database.read_all_cameras(), database.read_all_images()
        model = pycolmap.Reconstruction()
        for camera in cameras:
            model.add_camera_with_trivial_rig(camera)
        for image in images:
            w, x, y, z = poses[image.name].quaternion().tolist()
            turn = pycolmap.Rotation3d(np.array([x, y, z, w]))
            shift = poses[image.name].translation.numpy()
            model.add_image_with_trivial_frame(image, pycolmap.Rigid3d(turn, shift))
        return model

    def _partial(self) -> Path:
        partial = self.folder / "sparse.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        return partial

    def _keep(self, model: pycolmap.Reconstruction) -> None:
        whole = self.folder / "sparse.whole"
        shutil.rmtree(whole, ignore_errors=True)
        whole.mkdir()
        model.write_binary(str(whole))
        os.replace(whole, self.sparse)
        shutil.rmtree(self.folder / "sparse.partial", ignore_errors=True)


def take_out_misplaced(model: pycolmap.Reconstruction, database: Path) -> int:
    """Take out images that stand where what matches between them and others is not seen alike.

    Of what matches in two images that both stand right most becomes a point that both see. In
    COLMAP a pair can be left standing somewhere of its own. Returns how many are taken out.
    """
    seen = {
        image.image_id: {p.point3D_id for p in image.get_observation_points2D()}
        for image in model.images.values()
    }
    matched, shared = dict.fromkeys(seen, 0), dict.fromkeys(seen, 0)
    with pycolmap.Database.open(database) as opened:
        pairs, counts = opened.read_two_view_geometry_num_inliers()
    for pair, count in zip(pairs, counts, strict=True):
        one, other = pycolmap.pair_id_to_image_pair(pair)
        if one in seen and other in seen:
            both = len(seen[one] & seen[other])
            for number in (one, other):
                matched[number] += count
                shared[number] += both
    share = {number: shared[number] / max(matched[number], 1) for number in seen}
    usual = float(np.median(list(share.values())))
    wrong = [number for number in seen if share[number] < MISPLACED * usual]
    for number in wrong:
        model.deregister_frame(model.images[number].frame_id)
    return len(wrong)


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


def adjust(model: pycolmap.Reconstruction) -> None:
    """Bundle adjustment of poses and points that leaves the model where its cameras are, in
    metres. Intrinsics stay. Raises ModelError where the frame is lost.
    """
    before = {image.name: image.projection_center() for image in model.images.values()}
    options = pycolmap.BundleAdjustmentOptions()
    options.refine_focal_length = options.refine_extra_params = False
    options.print_summary = False
    options.ceres.solver_options.num_threads = 1
    pycolmap.bundle_adjustment(model, options)
    to_positions(model, before)


def _reason(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
