"""`train`: a network from a configuration."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from pixloc_ros.cli.options import Parser
from pixloc_ros.datasets.photographs import read_photographs, sample_photographs
from pixloc_ros.datasets.raycast import Textures
from pixloc_ros.errors import InputError
from pixloc_ros.features import FeatureNetwork, new_network, save_network
from pixloc_ros.features.checkpoint import load_network, open_network
from pixloc_ros.options import load_options, select_device
from pixloc_ros.training.image_pairs import ImagePairs
from pixloc_ros.training.loading import PairSource
from pixloc_ros.training.options import TrainingOptions
from pixloc_ros.training.synthetic import SyntheticPairs
from pixloc_ros.training.trainer import BEST, LAST, Processes, Trainer


def _network(options: TrainingOptions) -> FeatureNetwork:
    if not options.weights:
        return new_network(options.network)
    network = open_network(None if options.weights == "default" else options.weights)
    if network.architecture != options.network:
        raise InputError(
            f"{options.weights}: weights of {network.architecture}, network is {options.network}"
        )
    return network


def _sources(options: TrainingOptions, device: torch.device) -> tuple[PairSource, PairSource]:
    if options.source == "pairs":
        pairs, seed = options.pairs, options.validation.seed
        return (
            ImagePairs(pairs, pairs.scenes, options.start, options.seed, device),
            ImagePairs(pairs, pairs.validation, options.start, seed, device),
        )
    folder = options.synthetic.photographs
    photographs = (
        read_photographs(folder) if folder else [p for kind in sample_photographs() for p in kind]
    )
    held_out = max(round(options.validation.photographs * len(photographs)), 1)
    order = np.random.default_rng(0).permutation(len(photographs))
    if held_out >= len(order):
        raise InputError(f"{folder}: one photograph is not enough")
    parts = [Textures([photographs[i] for i in o]) for o in (order[held_out:], order[:held_out])]
    seeds = (options.seed, options.validation.seed)
    train, held = (
        SyntheticPairs(options.synthetic, options.start, part.to(device), seed, device)
        for part, seed in zip(parts, seeds, strict=True)
    )
    return train, held


def _join(device: str) -> tuple[Processes, torch.device]:
    """Which of torchrun's processes this is, and its device."""
    chosen = select_device(device)
    if "WORLD_SIZE" not in os.environ or int(os.environ["WORLD_SIZE"]) == 1:
        return Processes(), chosen
    if chosen.type == "cuda":
        chosen = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(chosen)
    torch.distributed.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    rank, count = torch.distributed.get_rank(), torch.distributed.get_world_size()
    return Processes(rank, count), chosen


def make_parser() -> Parser:
    parser = Parser("train", "Train a network. Run it by torchrun to use several GPUs.")
    parser.add_argument("--config", required=True, metavar="FILE.yaml")
    parser.add_argument("--output", required=True, metavar="DIR", help="checkpoints and logs")
    parser.add_argument("--resume", action="store_true", help="go on from DIR's last checkpoint")
    parser.add_argument("--export", metavar="FILE", help="write the best weights, half precision")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="of the configuration")
    return parser


def run(arguments: Sequence[str]) -> int:
    given = make_parser().parse_intermixed_args(arguments)
    options = load_options(TrainingOptions(), given.config, given.overrides)
    folder = Path(given.output)
    if (folder / LAST).exists() and not given.resume:
        raise InputError(f"{folder}: holds a training run; give --resume, or another folder")
    if given.resume and not (folder / LAST).exists():
        raise InputError(f"{folder / LAST}: no checkpoint to resume from")
    processes, device = _join(given.device)
    try:
        network = _network(options).to(device)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        trainer = Trainer(network, *_sources(options, device), options, folder, processes)
        if given.resume:
            trainer.resume()
        finished = trainer.run()
        if processes.count > 1:
            torch.distributed.barrier()  # no process leaves while another one still listens
    finally:
        if processes.count > 1:
            torch.distributed.destroy_process_group()
    if finished and given.export and processes.rank == 0:
        best = load_network(folder / BEST)
        save_network(best, given.export, asdict(options), half=True)
        print(f"{given.export}: {os.path.getsize(given.export) / 1e6:.2f} MB")
    return 0 if finished else 130
