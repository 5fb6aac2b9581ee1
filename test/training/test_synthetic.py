"""Synthetic batches: true geometry, seen from the seed alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from pixloc_ros.datasets.synthetic_scenes import make_scene
from pixloc_ros.errors import InputError
from pixloc_ros.geometry import Camera, FeatureTable, Pose
from pixloc_ros.training.batch import StartOptions, draw_start, random_pixels
from pixloc_ros.training.synthetic import SyntheticOptions, SyntheticPairs, seen_by


def made(source, options, step=0, scenes=(0, 1), seed=0):
    pairs = source(options, seed)
    return pairs.finish(step, scenes, pairs.prepare(step, scenes))


def test_points_are_seen_where_pose_and_depth_say(source, options):
    """The ideal image around a point is alike in both views: depth, pose and texture agree."""
    options.synthetic = replace(options.synthetic, sizes=[[192, 128]], points=300)
    pairs = source(options)
    scenes = range(4)
    batch = pairs.finish(1, scenes, pairs.prepare(1, scenes))
    pixels, seen = batch.targets
    own, inside = batch.cameras[batch.reference].project(batch.points)
    assert inside[batch.mask].all()
    grey = batch.images.mean(1)
    agree = []
    for k in torch.nonzero(batch.valid).flatten().tolist():
        if int(seen[k].sum()) < 50:
            continue
        a = FeatureTable(grey[batch.reference[k]][None]).sample(own[k][seen[k]])[:, 0]
        b = FeatureTable(grey[batch.query[k]][None]).sample(pixels[k][seen[k]])[:, 0]
        shuffled = b[torch.randperm(len(b), generator=torch.Generator().manual_seed(0))]
        true, chance = (np.corrcoef(a, v)[0, 1] for v in (b, shuffled))
        agree.append(true - chance)
    assert len(agree) >= 2
    assert np.mean(agree) > 0.3


def test_a_scene_depends_on_its_seed_alone(source, options):
    both, second = made(source, options), made(source, options, scenes=(1,))
    views = options.synthetic.views
    assert torch.equal(both.images[views:], second.images)
    assert torch.equal(both.points[1:], second.points)
    assert torch.equal(both.start[1:].rotation, second.start.rotation)
    other_step, other_seed = made(source, options, step=1), made(source, options, seed=1)
    assert not torch.equal(both.images, other_step.images)
    assert not torch.equal(both.images, other_seed.images)


@pytest.mark.parametrize("kind", ["room", "street", "yard", "wall"])
def test_every_kind_of_place_gives_overlapping_views(source, options, kind):
    options.synthetic = replace(options.synthetic, kinds=[kind], scenes=4)
    batch = made(source, options, scenes=range(4))
    assert batch.valid.float().mean() >= 0.5
    itself = batch.overlap.diagonal(dim1=1, dim2=2)
    assert (itself > 0.5).all()  # the sky belongs to no view
    assert batch.images.std((1, 2, 3)).min() > 0.01
    assert torch.isfinite(batch.points).all()
    assert ((batch.images >= 0) & (batch.images <= 1)).all()


def test_what_stands_before_a_point_hides_it():
    camera = Camera.from_colmap("SIMPLE_PINHOLE", 40, 40, [40, 20, 20]).to(torch.float32)[None]
    pose = Pose.identity(1)
    points = torch.tensor([[[0.0, 0.0, 2.0], [0.0, 0.0, 4.0], [0.0, 0.0, -2.0], [9.0, 0.0, 2.0]]])
    depth = torch.full((1, 40, 40), 2.0)
    assert seen_by(points, pose, camera, depth).tolist() == [[True, False, False, False]]


def test_what_is_covered_is_no_point_and_not_seen(source, options, monkeypatch):
    """Every pixel of the left half is covered: nothing there is drawn, or seen by the query."""

    def cover(images, random):
        hidden = torch.zeros(len(images), *images.shape[-2:], dtype=torch.bool)
        hidden[..., : images.shape[-1] // 2] = True
        return images, hidden

    free = made(source, options)
    monkeypatch.setattr("pixloc_ros.training.synthetic.disturb", cover)
    batch = made(source, options)
    width = batch.images.shape[-1]
    own, _ = batch.cameras[batch.reference].project(batch.points)
    assert (own[batch.mask][:, 0] > width // 2).all()
    pixels, seen = batch.targets
    assert seen.any()
    assert (pixels[seen][:, 0] >= width // 2).all()
    before, seen = free.targets
    assert (before[seen][:, 0] < width // 2).any()


def test_some_cameras_lie_on_their_side():
    """A quarter of the scenes is seen by cameras that are turned alike, others are upright."""
    turned = []
    for seed in range(60):
        rotation = make_scene((seed,), 2, 5, ["yard"])["rotation"]
        # how the image's x axis lies against the horizon
        turned.append(np.degrees(np.arctan2(rotation[:, 0, 2], -rotation[:, 1, 2])))
    apart = np.abs(np.diff(turned, axis=1)[:, 0])
    assert 4 < np.sum(np.abs(np.median(turned, 1)) > 60) < 30
    assert np.median(np.minimum(apart, 360 - apart)) < 20
    assert np.sum(np.minimum(apart, 360 - apart) > 25) > 5


def test_starts_are_where_the_options_say():
    truth = Pose.from_rotvec(torch.rand(400, 3), torch.rand(400, 3))
    depth = torch.full((400,), 2.0)
    options = StartOptions(at_reference=0.5, max_deg=10.0, max_shift=0.1)
    start = draw_start(truth, depth, options, np.random.default_rng(0))
    still = (start.translation == 0).all(-1)
    assert 0.4 < float(still.float().mean()) < 0.6
    relative = start[~still] @ truth[~still].inverse()
    _, angle = relative.distance(Pose.identity(len(relative)))
    assert 8.0 < float(torch.rad2deg(angle).max()) <= 10.1
    assert 0.15 < float(relative.translation.norm(dim=-1).max()) <= 0.2 + 1e-5


def test_pixels_are_distinct_allowed_and_prefer_detail():
    image = torch.zeros(1, 3, 40, 40)
    image[..., 20:] = torch.rand(40, 20)
    allowed = torch.ones(1, 40, 40, dtype=torch.bool)
    allowed[:, :4] = False
    noise = torch.rand(1, 1600)
    picked = random_pixels(image, allowed, 200, 0.7, noise)[0]
    assert len(picked.unique()) == 200
    assert (picked // 40 >= 4).all()
    assert float((picked % 40 >= 19).float().mean()) > 0.7
    even = random_pixels(image, allowed, 200, 0.0, noise)[0]
    assert 0.35 < float((even % 40 >= 20).float().mean()) < 0.65


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kinds": ["castle"]}, "castle; known"),
        ({"kinds": []}, "none"),
        ({"sizes": [[100, 64]]}, "multiples of 16"),
        ({"sizes": []}, "needs an entry"),
        ({"scenes": 0}, "at least 1"),
        ({"views": 1}, "at least 2"),
    ],
)
def test_impossible_options_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        SyntheticOptions(**change)


def test_pairs_without_overlap_are_marked(source, options):
    """Nothing overlaps by more than all of it: every pair stands for none."""
    options.synthetic = replace(options.synthetic, overlap=[1.01, 2.0])
    batch = made(source, options)
    assert not batch.valid.any()
    assert len(batch.reference) == 2


def test_layouts_travel_without_textures(source, options):
    """What worker processes get must not hold the texture buffer."""
    import pickle

    assert len(pickle.dumps(source(options).prepare)) < 10_000
    assert isinstance(source(options), SyntheticPairs)
