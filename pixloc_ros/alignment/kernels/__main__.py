"""`python -m pixloc_ros.alignment.kernels`: compile them now, not when the first one is needed."""

import torch

from pixloc_ros.alignment.kernels import backend

if __name__ == "__main__":
    backend.fused(torch.device("cpu"))
