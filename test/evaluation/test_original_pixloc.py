"""The original beside ours. Its checkout is not here: a stand-in with its interface is."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch

from pixloc_ros.errors import InputError
from pixloc_ros.evaluation.original_pixloc import Original
from pixloc_ros.evaluation.speed import against
from pixloc_ros.features import read_image
from pixloc_ros.features.pixloc import PixLocVGG16

FILES = {
    "pixlib/models/__init__.py": """
        import torch, torchvision
        from torch._six import string_classes
        class Refiner(torch.nn.Module):
            def __init__(self, conf):
                super().__init__()
                assert conf["optimizer"]["num_iters"] == 20 and isinstance("x", string_classes)
                self.conf = conf
                encoder = getattr(torchvision.models, conf["extractor"]["encoder"])()
                self.extractor = torch.nn.Module()
                self.layers = len(encoder.features)
                self.optimizer = torch.nn.ModuleList(torch.nn.Module() for _ in range(3))
                for level in self.optimizer:
                    level.dampingnet = torch.nn.Module()
                    level.dampingnet.const = torch.nn.Parameter(torch.ones(6))
        def get_model(name):
            assert name == "two_view_refiner"
            return Refiner
    """,
    "pixlib/geometry.py": """
        class Camera:
            @classmethod
            def from_colmap(cls, data):
                made = cls()
                made.data = data
                return made
    """,
    "utils/colmap.py": """
        from collections import namedtuple
        Camera = namedtuple("Camera", "id model width height params")
        Image = namedtuple("Image", "id qvec tvec camera_id name xys point3D_ids")
        Point3D = namedtuple("Point3D", "id xyz rgb error image_ids point2D_idxs")
    """,
    "localization/feature_extractor.py": """
        class FeatureExtractor:
            def __init__(self, model, device, conf):
                self.model = model
    """,
    "localization/model3d.py": """
        class Model3D:
            def get_p3did_to_dbids(self, dbids):
                seen = {}
                for i in dbids:
                    for p in self.dbs[i].point3D_ids:
                        if len(self.points3D[p].image_ids) >= 3:
                            seen.setdefault(p, set()).add(i)
                return seen
    """,
    "localization/base_refiner.py": """
        def read_image(path):
            raise OSError("images are read before")
    """,
    "localization/refiners.py": """
        import torch
        from . import base_refiner
        torch.set_grad_enabled(False)
        class Found:
            def __init__(self, R, t):
                self.R, self.t = R, t
        class RetrievalRefiner:
            def __init__(self, device, optimizer, model3d, extractor, paths, conf):
                assert isinstance(optimizer, list) and optimizer[0].dampingnet.const.sum() == 0
                self.model3d, self.paths, self.conf = model3d, paths, conf
            def refine(self, name, camera, dbids):
                assert len(dbids) == self.conf["num_dbs"]
                for i in dbids:
                    image = base_refiner.read_image(
                        self.paths.reference_images / self.model3d.dbs[i].name)
                    assert image.ndim == 3
                query = base_refiner.read_image(self.paths.query_images / name)
                assert query.shape[1] == camera.data["width"]
                if query.max() == 0:
                    raise RuntimeError("linalg.cholesky: not positive-definite")
                start = self.model3d.dbs[dbids[0]]
                w, x, y, z = start.qvec
                from pixloc_ros.geometry import Pose
                pose = Pose.from_quaternion(start.qvec, start.tvec)
                return {"success": True, "T_refined": Found(pose.rotation, pose.translation)}
    """,
}


@pytest.fixture
def checkout(tmp_path):
    for name, text in FILES.items():
        path = tmp_path / "pixloc" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    yield tmp_path
    for name in [n for n in sys.modules if n.split(".")[0] == "pixloc"]:
        del sys.modules[name]


def test_runs_what_the_checkout_holds(checkout, room, localizer):
    model = localizer.map.model
    names = set(sys.modules)
    original = Original(
        checkout, model, room.root / "images", [2, 0, 1], PixLocVGG16().eval(), 20, True
    )
    # stand-ins for old libraries go again, and gradients stay as they were
    assert not {"torch._six", "torchvision"} & (set(sys.modules) - names)
    assert torch.is_grad_enabled()
    assert str(checkout) not in sys.path
    long = model.track_length >= 3
    seen = [model.observed[model.offsets[r] : model.offsets[r + 1]] for r in (0, 1, 2)]
    assert original.observations() == sum(int(long[s].sum()) for s in seen)
    image = read_image(room.root / "images" / model.names[0])
    run = original.localize(image, model.cameras[0])
    assert run.ms > 0
    assert torch.allclose(run.pose.matrix(), model.pose(2).matrix())
    assert original.localize(np.zeros_like(image), model.cameras[0]).pose is None


def test_pairs_are_of_one_query(checkout, room, localizer):
    image = read_image(room.sequence.images / room.sequence.frames[2].name)
    pairs = against(
        checkout,
        localizer,
        room.root / "images",
        image,
        localizer.map.model.cameras[0],
        PixLocVGG16().eval(),
        repeats=1,
    )
    assert [p.what.split(",")[0] for p in pairs] == [
        "pixloc_vgg16",
        "pixloc_vgg16",
        "compact from a prior",
        "compact without a prior",
    ]
    assert all(p.ratio == p.original_ms / p.ours_ms > 0 for p in pairs)


def test_what_is_no_checkout_is_refused(tmp_path, room, localizer):
    images = room.root / "images"
    arguments = (localizer.map.model, images, [0], PixLocVGG16(), 20, True)
    with pytest.raises(InputError, match="not a checkout of the original"):
        Original(tmp_path, *arguments)
    folder = Path(tmp_path / "pixloc" / "localization")
    folder.mkdir(parents=True)
    (folder / "refiners.py").write_text("import no_such_module\n")
    with pytest.raises(InputError, match="does not import: No module named 'no_such_module'"):
        Original(tmp_path, *arguments)
    sys.modules.pop("pixloc", None)
