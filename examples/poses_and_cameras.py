"""Poses that are chained, and cameras that project with derivatives."""

import torch

from pixloc_ros import Camera, Pose


def main() -> None:
    # a_from_b: x_a = R x_b + t
    base_from_cam = Pose.from_Rt([[0, 0, 1], [-1, 0, 0], [0, -1, 0]], [0.2, 0.0, 1.1])
    map_from_base = Pose.from_quaternion([1, 0, 0, 0], [4.0, 2.0, 0.0])
    map_from_cam = map_from_base @ base_from_cam
    print("the camera stands at", (map_from_cam @ torch.zeros(1, 3).double())[0].tolist())

    # COLMAP's models and its pixels: the centre of the first pixel is (0.5, 0.5)
    camera = Camera.from_colmap("OPENCV", 640, 480, [520, 520, 320, 240, -0.1, 0.02, 0, 0])
    camera = Camera.from_colmap(
        **{"model": "PINHOLE", "width": 640, "height": 480, "params": [520, 520, 320, 240]}
    )
    points = torch.tensor([[6.0, 2.1, 1.0], [-6.0, 2.1, 1.0]], dtype=torch.float64)
    in_camera = map_from_cam.inverse() @ points
    pixels, to_pixels, visible = camera.project_with_jacobian(in_camera)
    print("projected to", pixels[0].tolist(), "; visible:", visible.tolist())

    # how pixels move with a small motion of the camera (translation, rotation)
    of_pose = to_pixels @ map_from_cam.inverse().transform_jacobian(in_camera)
    print("d pixel / d pose", tuple(of_pose.shape))

    # batches: the same camera at a hundred poses along a line
    steps = torch.linspace(0, 1, 100, dtype=torch.float64)
    along = torch.stack([steps, 0 * steps, 0 * steps], -1)
    path = Pose(map_from_cam.rotation.expand(100, 3, 3), map_from_cam.translation + along)
    print("nearest to the goal:", int((path.translation - points[0]).norm(dim=-1).argmin()))


if __name__ == "__main__":
    main()
