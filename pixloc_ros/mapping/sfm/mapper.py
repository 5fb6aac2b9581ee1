"""Poses and points from what matches between images."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pycolmap

from pixloc_ros.geometry import Pose
from pixloc_ros.mapping.frame import SEED, to_positions
from pixloc_ros.mapping.sfm.misplaced import take_out_misplaced
from pixloc_ros.mapping.sfm.workspace import SfmWorkspace
from pixloc_ros.mapping.sparse_model import ModelError


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


def _repeatable() -> pycolmap.IncrementalPipelineOptions:
    """One thread and one seed: the same images give the same model, interrupted or not."""
    options = pycolmap.IncrementalPipelineOptions()
    options.random_seed, options.num_threads = SEED, 1
    return options


@dataclass(frozen=True)
class Matched:
    """A workspace whose images are matched, or whose model is made already."""

    workspace: SfmWorkspace

    def map_images(self) -> pycolmap.Reconstruction:
        """Find poses and points from the matches alone; the frame is arbitrary.

        Raises ModelError where the images do not hang together.
        """
        work = self.workspace
        if not work.has_model:
            partial = work.empty("sparse.partial")
            options = _repeatable()
            if work.cameras_known:
                options.ba_refine_focal_length = options.ba_refine_extra_params = False
            models = pycolmap.incremental_mapping(work.database, work.images, partial, options)
            if not models:
                raise ModelError(
                    f"{work.images}: no two images overlap enough to begin a model with"
                )
            best = max(models.values(), key=lambda m: m.num_reg_images())
            if take_out_misplaced(best, work.database):
                best = self._again(best, options)
            work.keep(best)
        return work.model()

    def _again(
        self, model: pycolmap.Reconstruction, options: pycolmap.IncrementalPipelineOptions
    ) -> pycolmap.Reconstruction:
        """Give the images that were taken out another chance, now that the others stand."""
        work = self.workspace
        begin, partial = work.empty("sparse.begin"), work.empty("sparse.partial")
        model.write_binary(str(begin))
        models = pycolmap.incremental_mapping(
            work.database, work.images, partial, options, input_path=begin
        )
        shutil.rmtree(begin, ignore_errors=True)
        best = max([model, *models.values()], key=lambda m: m.num_reg_images())
        take_out_misplaced(best, work.database)
        return best

    def triangulate(self, poses: Mapping[str, Pose]) -> pycolmap.Reconstruction:
        """Find points from known cam_from_map poses of all images.

        Raises ModelError where there is none.
        """
        work = self.workspace
        if not work.has_model:
            posed, partial = self._posed(poses), work.empty("sparse.partial")
            made = pycolmap.triangulate_points(
                posed, work.database, work.images, partial, options=_repeatable()
            )
            if made.num_points3D() == 0:
                raise ModelError(
                    f"{work.images}: no point is seen alike in two images from their poses; are "
                    "poses, frames and calibration right?"
                )
            work.keep(made)
        return work.model()

    def registration(self, model: pycolmap.Reconstruction, skipped: int) -> Registration:
        """skipped: images that were left out."""
        return Registration(
            len(self.workspace.names) + skipped,
            model.num_reg_images(),
            model.num_points3D(),
            model.compute_mean_track_length(),
            model.compute_mean_reprojection_error(),
        )

    def _posed(self, poses: Mapping[str, Pose]) -> pycolmap.Reconstruction:
        with pycolmap.Database.open(self.workspace.database) as database:
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
