"""What is exported says what torch says."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from pixloc_ros.cli.main import main
from pixloc_ros.errors import InputError
from pixloc_ros.features.onnx import export_onnx, output_names

pytest.importorskip("onnx", reason="needs onnx to write")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs onnxruntime to run")


def test_the_file_alone_says_what_the_network_says(network, tmp_path, capsys):
    file = tmp_path / "compact.onnx"
    assert main(["export", "--output", str(file), "--size", "96x64"]) == 0
    assert "compact for 96x64 images" in capsys.readouterr().out
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    images = torch.rand(1, 3, 64, 96)
    found = dict(
        zip(
            output_names(network),
            session.run(output_names(network), {"images": images.numpy()}),
            strict=True,
        )
    )
    with torch.no_grad():
        output = network(images)
        descriptor = network.describe(output.encoding)
    for level, features in enumerate(output.features):
        scale = float(features.abs().max())
        assert np.allclose(found[f"features_{level}"], features, atol=1e-3 * scale)
        assert np.allclose(found[f"confidence_{level}"], output.confidence[level], atol=1e-3)
    assert np.allclose(found["descriptor"], descriptor, atol=1e-3)


def test_what_differs_is_not_kept(network, tmp_path, monkeypatch):
    run = onnxruntime.InferenceSession.run
    monkeypatch.setattr(
        onnxruntime.InferenceSession, "run", lambda *a: [1.01 * v for v in run(*a)]
    )
    with pytest.raises(InputError, match=r"differs from torch by 0\.01"):
        export_onnx(network, tmp_path / "n.onnx", 64, 64)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("more", "message"),
    [(["--size", "big"], "as 640x480"), (["--size", "16x480"], "at least 32 a side")],
)
def test_mistakes_get_one_line(tmp_path, capsys, more, message):
    assert main(["export", "--output", str(tmp_path / "n.onnx"), *more]) == 1
    assert message in capsys.readouterr().err


def test_without_onnx(network, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputError, match="pip install onnx onnxruntime"):
        export_onnx(network, tmp_path / "n.onnx", 64, 64)
