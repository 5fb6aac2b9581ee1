"""What is fastest on a machine is found by trying, once, and only among what agrees."""

from __future__ import annotations

import time

import pytest

from pixloc_ros import fastest as module
from pixloc_ros.fastest import fastest


@pytest.fixture(autouse=True)
def kept(monkeypatch, tmp_path):
    """What is remembered, in a folder of the test's own."""
    monkeypatch.setattr(module, "kept_folder", lambda: tmp_path)
    return tmp_path / "fastest.json"


def way(seconds, answer=1, runs=None):
    def run():
        if runs is not None:
            runs.append(seconds)
        time.sleep(seconds)
        return answer

    return lambda: run


def unlike(found, wanted):
    return "" if found == wanted else f"{found} is not {wanted}"


def test_the_fastest_that_agrees():
    choice = fastest(
        "work", {"plain": way(0.03), "fast": way(0.01), "wrong": way(0.001, 2)}, unlike
    )
    assert choice.name == "fast"
    assert choice.refused == {"wrong": "2 is not 1"}
    assert str(choice).startswith("fast 1")
    assert "plain 3" in str(choice)


def test_what_cannot_be_used_is_refused_with_a_word():
    def absent():
        raise ImportError("no module")

    def unfit():
        raise RuntimeError("no such instruction\nin line 7")

    def breaks():
        def run():
            raise ValueError("too large")

        return run

    ways = {"plain": way(0.001), "absent": absent, "unfit": unfit, "breaks": breaks}
    choice = fastest("work", ways, unlike)
    assert choice.name == "plain"
    assert choice.refused == {
        "absent": "not installed",
        "unfit": "no such instruction",
        "breaks": "too large",
    }


@pytest.mark.parametrize(
    ("cpuinfo", "multiplied"),
    [
        ("model name\t: AMD EPYC\nflags\t\t: fpu avx avx2 fma\n", False),
        ("model name\t: Xeon\nflags\t\t: avx512f avx512_bf16 amx_bf16 amx_tile\n", True),
        ("processor\t: 0\nFeatures\t: fp asimd bf16 i8mm\n", True),
        ("processor\t: 0\nisa\t: rv64imafdc\n", True),  # it does not say: it is tried
    ],
)
def test_what_a_processor_cannot_multiply_is_not_tried(cpuinfo, multiplied, tmp_path, monkeypatch):
    path = tmp_path / "cpuinfo"
    path.write_text(cpuinfo)
    assert module.multiplies("bfloat16", path) is multiplied
    assert module.multiplies("single", path)
    assert module.multiplies("bfloat16", tmp_path / "none")
    monkeypatch.setattr(module, "multiplies", lambda name: name != "bfloat16")
    runs = []
    ways = {"torch": way(0.001), "torch_bfloat16": way(0.0, runs=runs), "bfloat16": way(0.0)}
    choice = fastest("work", ways, unlike)
    assert choice.name == "torch"
    assert choice.refused["torch_bfloat16"] == "the processor does not multiply it"
    assert not runs


def test_the_reference_must_work():
    def unfit():
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        fastest("work", {"plain": unfit, "other": way(0.001)}, unlike)


def test_a_slow_first_run_is_forgiven_a_hopeless_one_not_repeated():
    hopeless, first = [], []

    def compiled():
        def run():
            time.sleep(0.001 if first else 0.05)
            first.append(1)
            return 1

        return run

    ways = {"plain": way(0.01), "compiled": compiled, "hopeless": way(0.2, runs=hopeless)}
    choice = fastest("work", ways, unlike)
    assert choice.name == "compiled"
    assert len(hopeless) == 1


def test_it_is_remembered_until_something_changes(monkeypatch):
    runs = []
    ways = {"plain": way(0.001, runs=runs), "other": way(0.002, runs=runs)}
    choice = fastest("work", ways, unlike)
    count = len(runs)
    assert fastest("work", ways, unlike) == choice
    assert len(runs) == count
    for change in (
        lambda: fastest("other work", ways, unlike),
        lambda: fastest("work", ways | {"third": way(0.001)}, unlike),
        lambda: monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2"),
        lambda: monkeypatch.setattr(module, "processor", lambda: "another"),
    ):
        count = len(runs)
        change()
        fastest("work", ways, unlike)
        assert len(runs) > count


@pytest.mark.parametrize("content", ["", "[1]", '{"a": {"name": 1}}', "\xff", '{"a": 1}'])
def test_what_was_kept_and_is_broken_is_measured_again(kept, content):
    kept.write_text(content)
    assert fastest("work", {"plain": way(0.001)}, unlike).name == "plain"
    assert fastest("work", {"plain": way(0.001)}, unlike).name == "plain"


def test_without_a_folder_nothing_is_kept(monkeypatch):
    monkeypatch.setattr(module, "kept_folder", lambda: None)
    assert fastest("work", {"plain": way(0.001)}, unlike).name == "plain"
