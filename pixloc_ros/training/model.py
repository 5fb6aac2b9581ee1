"""From a batch to its loss: the network, alignment through the levels, and every term."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixloc_ros.alignment import (
    AlignmentProblem,
    LMOptions,
    QueryMap,
    learned_damping,
    optimize_level,
)
from pixloc_ros.errors import InputError
from pixloc_ros.features import FeatureNetwork
from pixloc_ros.geometry import Camera, FeatureTable, Pose
from pixloc_ros.training.batch import PairBatch
from pixloc_ros.training.losses import (
    ContrastiveLoss,
    GaussNewtonLoss,
    ReprojectionLoss,
    overlap_loss,
)


@dataclass
class LossOptions:
    """Weights of the terms, zero for none, and their settings.

    iterations: of alignment at each level. contrast: InfoNCE on every level, with its
    temperature. gauss_newton: see `GaussNewtonLoss`. retrieval: of the global descriptor,
    among `group` scenes.
    """

    reprojection: float = 1.0
    iterations: int = 6
    contrast: float = 0.3
    temperature: float = 0.07
    gauss_newton: float = 0.0
    retrieval: float = 0.1
    retrieval_temperature: float = 0.07
    group: int = 4

    def __post_init__(self) -> None:
        weights = (self.reprojection, self.contrast, self.gauss_newton, self.retrieval)
        if min(weights) < 0 or not any(weights):
            raise InputError("loss: weights are not negative, and one of them is positive")
        if self.iterations < 1 or self.group < 1:
            raise InputError("loss: iterations and group are at least 1")
        if self.temperature <= 0 or self.retrieval_temperature <= 0:
            raise InputError("loss: temperatures are positive")


@dataclass(frozen=True)
class StepOutcome:
    """total: the loss. terms: its parts, (). poses: (P,) query_from_reference after each level.

    matched: (P,) share of points whose position in the query has the most similar feature.
    descriptors: (M, D) of the images.
    """

    total: Tensor
    terms: Mapping[str, Tensor]
    poses: tuple[Pose, ...]
    matched: Tensor
    descriptors: Tensor


def level_camera(camera: Camera, stride: int, offset: float) -> Camera:
    """The camera whose pixels are the cells of a level; batch shape as given."""
    scaled = camera.scale(1 / stride)
    return replace(scaled, centre=scaled.centre - offset / stride)


class AlignmentModel(nn.Module):
    """A network and the losses of its alignment, as one module that can be distributed."""

    def __init__(self, network: FeatureNetwork, options: LossOptions) -> None:
        super().__init__()
        self.network, self.options = network, options
        self.contrast = ContrastiveLoss(options.temperature)
        self.gauss_newton = GaussNewtonLoss()
        self.reprojection = ReprojectionLoss()

    def forward(self, batch: PairBatch) -> StepOutcome:
        """The loss of a batch; sums over pairs are divided by the number of pairs, valid or not,

        so that the mean over processes is the loss of all their batches together.
        """
        options, network = self.options, self.network
        with torch.autocast("cuda", torch.bfloat16, enabled=batch.images.is_cuda):
            output = network(batch.images.contiguous(memory_format=torch.channels_last))
        levels = range(len(network.strides) - 1, -1, -1)
        pixels, seen = batch.targets
        terms = {"contrast": pixels.new_zeros(()), "gauss_newton": pixels.new_zeros(())}
        poses: list[Pose] = []
        matched = pixels.new_zeros(len(pixels))
        pose = batch.start
        for level in levels:
            dense = F.normalize(output.features[level].float(), dim=1)
            confidence = output.confidence[level].float()
            stride, offset = network.strides[level], network.offsets[level]
            cameras = level_camera(batch.cameras, stride, offset)
            known = torch.cat([dense, confidence[:, None]], 1)[batch.reference]
            cells, inside = cameras[batch.reference].project(batch.points)
            sampled = FeatureTable(known).sample(cells)
            features = F.normalize(sampled[..., :-1], dim=-1)
            query = dense[batch.query]
            targets = (pixels - offset) / stride
            share = batch.valid.to(pixels.dtype) / len(pixels) / len(levels)
            usable = seen & inside
            if options.contrast:
                loss, right = self.contrast(features, query, targets, usable)
                terms["contrast"] = terms["contrast"] + (loss * share).sum()
                matched = right if level == 1 else matched
            if options.gauss_newton:
                # the seed of the offsets is the position itself: the same in every run
                offsets = (pixels * 1e3).detach().frac() * 2 - 1
                loss = self.gauss_newton(features, query, targets, usable, offsets)
                terms["gauss_newton"] = terms["gauss_newton"] + (loss * share).sum()
            problem = AlignmentProblem(
                QueryMap.of(query, confidence[batch.query]),
                cameras[batch.query],
                batch.points,
                features,
                sampled[..., -1],
                batch.mask & inside,
            )
            damping = learned_damping(network.damping_parameters(level))
            lm = LMOptions(options.iterations, 0.0, reject_steps=not self.training)
            with torch.set_grad_enabled(torch.is_grad_enabled() and options.reprojection > 0):
                pose = optimize_level(problem, pose.detach(), damping, lm).pose
            poses.append(pose)
        strides = [network.strides[level] for level in levels]
        errors, _ = self.reprojection(
            batch.cameras[batch.query], batch.points, batch.truth, batch.start, poses, strides
        )
        terms["reprojection"] = (errors * batch.valid).sum() / len(errors)
        descriptors = network.describe(output.encoding.float())
        terms["retrieval"] = pixels.new_zeros(())
        if batch.overlap is not None and options.retrieval:
            terms["retrieval"] = overlap_loss(
                descriptors, batch.overlap, options.group, options.retrieval_temperature
            ).mean()
        total = torch.stack([getattr(options, name) * terms[name] for name in sorted(terms)]).sum()
        # every parameter takes part in every step, whatever the weights: processes stay together
        unused = sum(p.sum() for p in network.parameters() if p.requires_grad) * 0.0
        return StepOutcome(
            total + unused,
            {k: v.detach() for k, v in terms.items()},
            tuple(p.detach() for p in poses),
            matched.detach(),
            descriptors.detach(),
        )
