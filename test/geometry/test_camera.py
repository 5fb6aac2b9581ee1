from __future__ import annotations

import cv2
import numpy as np
import pycolmap
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd.functional import jacobian

from pixloc_ros.geometry import Camera, CameraError, Lens
from pixloc_ros.geometry.camera import MODELS
from pixloc_ros.geometry.distortion import COEFFICIENTS, tilt

PARAMS = {
    "SIMPLE_PINHOLE": [500.0, 322.0, 239.0],
    "PINHOLE": [500.0, 510.0, 322.0, 239.0],
    "SIMPLE_RADIAL": [500.0, 322.0, 239.0, -0.12],
    "RADIAL": [500.0, 322.0, 239.0, -0.2, 0.06],
    "OPENCV": [500.0, 510.0, 322.0, 239.0, -0.2, 0.06, 1e-3, -2e-3],
    "OPENCV_FISHEYE": [300.0, 310.0, 322.0, 239.0, 0.02, -0.01, 3e-3, -1e-3],
    "FULL_OPENCV": [500.0, 510.0, 322.0, 239.0, 0.2, -0.06, 1e-3, -2e-3, 0.01, 0.3, -0.02, 0.01],
    "FOV": [500.0, 510.0, 322.0, 239.0, 0.9],
    "SIMPLE_FISHEYE": [300.0, 322.0, 239.0],
    "FISHEYE": [300.0, 310.0, 322.0, 239.0],
    "SIMPLE_RADIAL_FISHEYE": [300.0, 322.0, 239.0, 0.05],
    "RADIAL_FISHEYE": [300.0, 322.0, 239.0, 0.05, -0.01],
    "THIN_PRISM_FISHEYE": [
        *(300.0, 310.0, 322.0, 239.0, 0.02, -0.01, 1e-3, -2e-3, 3e-3, -1e-3, 2e-3, -1e-3)
    ],
    "RAD_TAN_THIN_PRISM_FISHEYE": [
        *(300.0, 310.0, 322.0, 239.0, 0.02, -0.01, 3e-3, -1e-3, 2e-4, -1e-4),
        *(1e-3, -2e-3, 2e-3, -1e-3, 1e-3, 5e-4),
    ],
    "SIMPLE_DIVISION": [500.0, 322.0, 239.0, -0.2],
    "DIVISION": [500.0, 510.0, 322.0, 239.0, 0.1],
    "EUCM": [300.0, 310.0, 322.0, 239.0, 0.6, 1.1],
}
models = pytest.mark.parametrize("model", PARAMS)


def test_no_model_is_left_out():
    assert set(PARAMS) == set(MODELS)


def camera_of(model):
    return Camera.from_colmap(model, 640, 480, PARAMS[model])


def points_in_view(count=200, spread=0.5):
    generator = torch.Generator().manual_seed(1)
    points = torch.rand(count, 3, dtype=torch.float64, generator=generator) * 2 - 1
    depth = 1 + 4 * torch.rand(count, dtype=torch.float64, generator=generator)
    return torch.stack([points[:, 0] * spread * depth, points[:, 1] * spread * depth, depth], -1)


@models
def test_projects_as_colmap_does(model):
    points = points_in_view()
    theirs = pycolmap.Camera(model=model, width=640, height=480, params=PARAMS[model])
    pixels, valid = camera_of(model).project(points)
    expected = torch.from_numpy(theirs.img_from_cam(points.numpy()))
    assert valid.sum() > 100
    assert torch.allclose(pixels[valid], expected[valid], atol=1e-9)


@models
def test_jacobian_matches_autograd(model):
    camera, points = camera_of(model), points_in_view(20)
    _, analytic, _ = camera.project_with_jacobian(points)
    for point, block in zip(points, analytic, strict=True):
        numeric = jacobian(lambda p: camera.project(p[None])[0][0], point)
        assert torch.allclose(block, numeric, atol=1e-9)


@pytest.mark.parametrize("model", ["OPENCV_FISHEYE", "FOV", "DIVISION", "EUCM"])
def test_jacobian_on_the_axis_and_beside_it(model):
    camera = camera_of(model)
    for point in ([0, 0, 2.0], [1e-9, 0, 2.0], [1e-4, -2e-4, 2.0]):
        point = torch.tensor([point], dtype=torch.float64)
        pixels, analytic, valid = camera.project_with_jacobian(point)
        assert valid.all()
        step = 1e-6
        numeric = torch.stack(
            [
                (camera.project(point + step * axis)[0] - camera.project(point - step * axis)[0])[
                    0
                ]
                / (2 * step)
                for axis in torch.eye(3, dtype=torch.float64)
            ],
            -1,
        )
        assert torch.allclose(analytic[0], numeric, atol=1e-4)
        assert torch.isfinite(pixels).all()


@models
@given(x=st.floats(5, 635), y=st.floats(5, 475))
def test_unproject_inverts_project(model, x, y):
    camera = camera_of(model)
    pixel = torch.tensor([[x, y]], dtype=torch.float64)
    ray, valid = camera.unproject(pixel)
    assert valid.all()
    assert torch.allclose(ray.norm(dim=-1), torch.ones(1, dtype=torch.float64))
    back, seen = camera.project(ray * 3.0)
    assert seen.all()
    assert torch.allclose(back, pixel, atol=1e-6)


@models
def test_unproject_is_differentiable(model):
    camera = camera_of(model)
    pixels = torch.tensor([[100.0, 80.0], [322.0, 239.0], [600.0, 400.0]], dtype=torch.float64)
    pixels.requires_grad_()
    rays, _ = camera.unproject(pixels)
    (gradient,) = torch.autograd.grad(rays.sum(), pixels)
    step = 1e-5
    for i in range(2):
        offset = torch.zeros(2, dtype=torch.float64)
        offset[i] = step
        high, low = (camera.unproject(pixels.detach() + s * offset)[0] for s in (1, -1))
        numeric = ((high - low) / (2 * step)).sum(-1)
        if (
            "FISHEYE" in model or model == "FOV"
        ):  # at the very centre the branch is exact, its slope is not
            numeric, ours = numeric[[0, 2]], gradient[[0, 2], i]
        else:
            ours = gradient[:, i]
        assert torch.allclose(ours, numeric, atol=1e-5)


def test_opencv_agrees_on_the_rational_model():
    fx, fy, cx, cy, *d = PARAMS["FULL_OPENCV"]
    matrix = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    points = points_in_view(50)
    expected, _ = cv2.projectPoints(points.numpy(), np.zeros(3), np.zeros(3), matrix, np.array(d))
    pixels, _ = camera_of("FULL_OPENCV").project(points)
    assert np.allclose(pixels.numpy(), expected[:, 0], atol=1e-9)


@pytest.mark.parametrize(
    ("k1", "k2", "expected"),
    [
        (-0.3, 0.0, 1 / 0.9),  # 1 + 3 k1 u = 0
        (0.1, 0.05, np.inf),  # always grows
        (-0.5, 0.06, (1.5 - np.sqrt(2.25 - 1.2)) / 0.6),  # the smaller of two positive roots
        (0.2, -0.1, (0.6 + np.sqrt(0.36 + 2.0)) / 1.0),
    ],
)
def test_distortion_is_valid_up_to_the_smallest_positive_root(k1, k2, expected):
    camera = Camera.from_colmap("RADIAL", 640, 480, [300, 320, 240, k1, k2])
    assert float(camera.limit) == pytest.approx(expected)
    if np.isfinite(expected):
        radius = np.sqrt(expected)
        inside, outside = (torch.tensor([[r * radius, 0, 1.0]]).double() for r in (0.99, 1.01))
        wide = camera.crop(-1e4, -1e4, 2e4, 2e4)
        assert wide.project(inside)[1].all()
        assert not wide.project(outside)[1].any()


@models
@given(
    points=st.lists(
        st.tuples(*[st.floats(-1e6, 1e6, allow_nan=False)] * 3), min_size=1, max_size=8
    )
)
def test_valid_projections_are_finite_and_inside(model, points):
    camera = camera_of(model)
    points = torch.tensor(points, dtype=torch.float64)
    pixels, jacobians, valid = camera.project_with_jacobian(points)
    assert torch.isfinite(pixels[valid]).all()
    assert torch.isfinite(jacobians[valid]).all()
    assert ((pixels[valid] >= 0) & (pixels[valid] <= camera.size)).all()


def test_points_behind_the_camera_are_invalid():
    points = torch.tensor([[0, 0, -1.0], [0.1, 0.1, 0.0]], dtype=torch.float64)
    for model in PARAMS:
        assert not camera_of(model).project(points)[1][0]


@models
def test_scaling_and_cropping_move_pixels_accordingly(model):
    camera, points = camera_of(model), points_in_view(30)
    pixels, _ = camera.project(points)
    scaled, _ = camera.scale(0.25).project(points)
    assert torch.allclose(scaled, pixels / 4, atol=1e-9)
    two, _ = camera.resize(320, 120).project(points)
    assert torch.allclose(two, pixels * torch.tensor([0.5, 0.25]).double(), atol=1e-9)
    cropped, inside = camera.crop(100, 50, 200, 100).project(points)
    assert torch.allclose(cropped, pixels - torch.tensor([100.0, 50.0]).double(), atol=1e-9)
    window = (pixels >= torch.tensor([100.5, 50.5])) & (pixels <= torch.tensor([299.5, 149.5]))
    assert torch.equal(inside, window.all(-1))


@pytest.mark.parametrize(
    ("model", "size", "params", "message"),
    [
        ("MOEBIUS", (640, 480), [1], "not supported"),
        ("PINHOLE", (640, 480), [500, 500, 320], "4 parameters, 3 were given"),
        ("PINHOLE", (640, 480), [500, np.nan, 320, 240], "not finite"),
        ("PINHOLE", (0, 480), [500, 500, 320, 240], "not positive"),
        ("PINHOLE", (640, 480), [0, 0, 0, 0], "not positive"),
        ("SIMPLE_RADIAL", (640, 480), [-3, 320, 240, 0], "not positive"),
        ("EQUIRECTANGULAR", (640, 480), [640, 480], "not supported"),
        ("FOV", (640, 480), [500, 500, 320, 240, 4.0], "omega"),
        ("EUCM", (640, 480), [500, 500, 320, 240, 1.5, 1.0], "alpha"),
    ],
)
def test_impossible_intrinsics_are_refused(model, size, params, message):
    with pytest.raises(CameraError, match=message):
        Camera.from_colmap(model, *size, params)


@models
def test_colmap_has_the_same_camera(model):
    name, params = camera_of(model).colmap()
    points = points_in_view()
    pixels, valid = camera_of(model).project(points)
    again, _ = Camera.from_colmap(name, 640, 480, params).project(points)
    assert torch.allclose(pixels[valid], again[valid], atol=1e-9)


def test_opencv_agrees_on_prism_and_tilt_which_colmap_does_not_have():
    d = [0.2, -0.06, 1e-3, -2e-3, 0.01, 0.3, -0.02, 0.01, 1e-3, -2e-4, 8e-4, 1e-4, 0.06, -0.03]
    numbers = dict(zip(COEFFICIENTS[:12], d, strict=False)) | tilt(*d[12:])
    camera = Camera.of(Lens.PERSPECTIVE, (640, 480), (500, 510), (322, 239), numbers)
    matrix = np.array([[500, 0, 322.0], [0, 510, 239], [0, 0, 1]])
    points = points_in_view(50)
    expected, _ = cv2.projectPoints(points.numpy(), np.zeros(3), np.zeros(3), matrix, np.array(d))
    pixels, analytic, valid = camera.project_with_jacobian(points)
    assert np.allclose(pixels.numpy(), expected[:, 0], atol=1e-9)
    numeric = jacobian(lambda p: camera.project(p)[0].sum(0), points).permute(1, 0, 2)
    assert torch.allclose(analytic, numeric, atol=1e-9)
    rays, ok = camera.unproject(pixels[valid])
    assert ok.all()
    assert torch.allclose(camera.project(rays * 3)[0], pixels[valid], atol=1e-6)
    assert camera.colmap() is None


def test_batches_of_cameras():
    cameras = Camera.stack([camera_of("OPENCV"), camera_of("SIMPLE_RADIAL")])
    points = points_in_view(10)
    pixels, valid = cameras.project(points.expand(2, 10, 3))
    assert pixels.shape == (2, 10, 2)
    for i, model in enumerate(("OPENCV", "SIMPLE_RADIAL")):
        alone, _ = camera_of(model).project(points)
        assert torch.allclose(pixels[i], alone)
    assert valid.shape == (2, 10)
