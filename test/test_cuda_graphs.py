"""What is replayed on a GPU is just called elsewhere."""

from __future__ import annotations

import pytest
import torch

from pixloc_ros.cuda_graphs import GraphedCallable

GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def add(a, b, factor):
    return [a + factor * b]


def test_on_the_cpu_the_function_is_called():
    replay = GraphedCallable(torch.device("cpu"))
    for number in range(3):
        (found,) = replay(add, [torch.full((2,), float(number)), torch.ones(2)], 2)
        assert found.tolist() == [number + 2.0] * 2


@pytest.mark.gpu
@GPU
def test_on_a_gpu_answers_follow_inputs_shapes_and_constants():
    replay = GraphedCallable(torch.device("cuda"))
    for size in (2, 5, 2):
        for number in range(3):
            for factor in (1, 3):
                given = [torch.full((size,), float(number)), torch.ones(size)]
                (found,) = replay(add, given, factor)
                assert found.tolist() == [number + factor] * size
    assert len(replay._recordings) == 4


def test_errors_of_the_function_are_the_callers():
    replay = GraphedCallable(torch.device("cpu"))
    with pytest.raises(RuntimeError, match="size of tensor"):
        replay(add, [torch.ones(2), torch.ones(3)], 1)
