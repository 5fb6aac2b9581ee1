"""A description of whole images by which a map tells its places apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pixloc_ros.features.image import MIN_SIDE
from pixloc_ros.features.pyramid import ImagePyramid

ANCHORS = 256
"""Features of the map's images that responses are measured to."""
POWER = 10.0
"""Of a response: how much the cells that look most like an anchor count."""
SHRINK = 0.3
"""Of the mean variance, that is added to each: what the changed views do not show."""
SAMPLED = 60
"""References, at most, that a model is learned from."""
ENOUGH = 8
"""References from which a map has a model of its own."""
SMALLEST = 3 * MIN_SIDE
"""Pixels along a side of an image of which narrower views can be made."""
CELLS = 200
"""Of each of them, from which the anchors are found."""
ROUNDS = 8
WIDTH = 256
"""Numbers of a description."""


@dataclass(frozen=True)
class PlaceModel:
    """How a map describes images: A anchors among features of C channels, K numbers.

    centre: (C,), the mean feature. anchors: (C, A), unit norm. mean: (G + A,), of what is said of
    the references before the projection, G being the width of the network's own descriptor.
    projection: (G + A, K), which turns down what changes with the field of view and the roll of a
    camera.
    """

    centre: Tensor
    anchors: Tensor
    mean: Tensor
    projection: Tensor

    def describe(self, pyramid: ImagePyramid) -> Tensor:
        """The description (K,), unit norm, of an image; similarity is the inner product."""
        said = _said(pyramid, self.centre, self.anchors)
        return F.normalize((said - self.mean) @ self.projection, dim=-1)


def _cells(pyramid: ImagePyramid) -> Tensor:
    """Features (n, C) of the coarsest level, unit norm."""
    return pyramid.levels[0].features.float().flatten(1).T.cpu()


def _said(pyramid: ImagePyramid, centre: Tensor, anchors: Tensor) -> Tensor:
    """The network's descriptor and the responses of all anchors, (G + A,).

    A response is a generalized mean over the image, as Radenovic, Tolias, Chum, "Fine-tuning CNN
    image retrieval" (2018), equation 3, of how alike cells and anchor are.
    """
    alike = (F.normalize(_cells(pyramid) - centre, dim=-1) @ anchors).clamp(min=0)
    responses = F.normalize(alike.pow(POWER).mean(0).sqrt(), dim=0)
    return torch.cat([pyramid.descriptor.float().cpu(), responses])


def _middle(image: np.ndarray, share: float) -> np.ndarray:
    """As a camera of a narrower view sees it."""
    height, width = image.shape[:2]
    down, across = round(height * share), round(width * share)
    y, x = (height - down) // 2, (width - across) // 2
    return np.ascontiguousarray(image[y : y + down, x : x + across])


def _rolled(image: np.ndarray, degrees: float) -> np.ndarray:
    """As a camera sees it that is turned about its axis; cut to what has no black corners."""
    height, width = image.shape[:2]
    angle = np.radians(degrees)
    c, s = np.cos(angle), np.sin(angle)
    share = min(width / (width * c + height * s), height / (width * s + height * c))
    across, down = int(width * share), int(height * share)
    turn = np.array([[c, -s], [s, c]])
    to = np.array([across - 1, down - 1]) / 2 - turn @ (np.array([width - 1, height - 1]) / 2)
    return cv2.warpAffine(image, np.c_[turn, to], (across, down), flags=cv2.INTER_LINEAR)


def changed_views(image: np.ndarray) -> list[np.ndarray]:
    """The same place by other cameras: one of a narrower view, and one that rolls."""
    return [_middle(image, 0.5), _rolled(image, 45)]


def learn_places(
    images: Sequence[np.ndarray], extract: Callable[[np.ndarray], ImagePyramid]
) -> PlaceModel:
    """The model of a map. images: of some of its references, (H, W, 3) RGB uint8.

    extract: pyramids, of which the coarsest level and the descriptor are used.
    Source: spherical k-means (Dhillon, Modha, 2001); the projection whitens the differences
    between views of one place, as within-class covariance normalization does (Hatch, Kajarekar,
    Stolcke, 2006).
    """
    # sums over several threads differ in their last digits from run to run of another machine
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _learn(images, extract)
    finally:
        torch.set_num_threads(threads)


@torch.no_grad()
def _learn(
    images: Sequence[np.ndarray], extract: Callable[[np.ndarray], ImagePyramid]
) -> PlaceModel:
    generator = torch.Generator().manual_seed(0)
    whole, other = [], []
    for image in images:
        whole.append(extract(image))
        other.append([extract(view) for view in changed_views(image)])
    samples = []
    for pyramid in whole:
        cells = _cells(pyramid)
        samples.append(cells[torch.randperm(len(cells), generator=generator)[:CELLS]])
    features = torch.cat(samples)
    centre = features.mean(0)
    anchors = _anchors(F.normalize(features - centre, dim=-1), generator)
    said = torch.stack([_said(pyramid, centre, anchors) for pyramid in whole])
    changes = [
        _said(view, centre, anchors) - own
        for views, own in zip(other, said, strict=True)
        for view in views
    ]
    mean = said.mean(0)
    projection = _projection(said - mean, torch.stack(changes))
    return PlaceModel(centre, anchors, mean, projection)


def _anchors(features: Tensor, generator: torch.Generator) -> Tensor:
    """(C, A) centres of clusters of features (n, C) of unit norm."""
    chosen = torch.randperm(len(features), generator=generator)[:ANCHORS]
    centres = features[chosen].clone()
    for _ in range(ROUNDS):
        nearest = torch.cat([(part @ centres.T).argmax(-1) for part in features.split(8192)])
        sums = torch.zeros_like(centres).index_add_(0, nearest, features)
        filled = sums.norm(dim=-1) > 1e-6
        centres[filled] = F.normalize(sums[filled], dim=-1)
    return centres.T.contiguous()


def _projection(said: Tensor, changes: Tensor) -> Tensor:
    """(G + A, K), from what is said of the references, without its mean (R, G + A), and how that
    changes with the view (V, G + A).
    """
    wide = changes.double()
    values, vectors = torch.linalg.eigh(wide.T @ wide / len(wide))
    values = values.clamp(min=0)
    spread = (values + SHRINK * values.mean()).clamp(min=1e-12)
    whiten = (vectors * spread.rsqrt()) @ vectors.T
    known = torch.cat([said.double(), wide]) @ whiten
    # the axes along which places and views differ most
    _, axes = torch.linalg.eigh(known.T @ known)
    return (whiten @ axes[:, -WIDTH:].flip(-1)).float()
