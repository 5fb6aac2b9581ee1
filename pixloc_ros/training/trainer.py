"""The training loop: steps, checkpoints, validation, and stopping without losing anything."""

from __future__ import annotations

import json
import math
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from pixloc_ros.errors import InputError
from pixloc_ros.features import FeatureNetwork
from pixloc_ros.features.checkpoint import CheckpointError, read_checkpoint
from pixloc_ros.training.batch import PairBatch
from pixloc_ros.training.loading import PairSource, batches
from pixloc_ros.training.model import AlignmentModel
from pixloc_ros.training.options import TrainingOptions
from pixloc_ros.training.pictures import alignment_picture
from pixloc_ros.training.validation import ValidationResult, validate

LAST, BEST, LOG = "last.pt", "best.pt", "log.jsonl"
MOST_BAD_STEPS = 10
"""Steps in a row without a finite loss or gradient after which training gives up."""


class TrainingError(InputError):
    """Training that cannot go on, with the reason in one line."""


@dataclass(frozen=True)
class Processes:
    """Which of the processes that train together this one is; rank 0 writes."""

    rank: int = 0
    count: int = 1

    def share(self, samples: int) -> range:
        """The samples of a step that this process makes."""
        if samples % self.count:
            raise InputError(
                f"{samples} samples a step cannot be shared by {self.count} processes"
            )
        each = samples // self.count
        return range(self.rank * each, (self.rank + 1) * each)


def learning_rate(step: int, options: TrainingOptions) -> float:
    """The share of the full learning rate at a step: linear warm-up, cosine to zero."""
    warm = min((step + 1) / max(options.optimizer.warm_up, 1), 1.0)
    return warm * 0.5 * (1 + math.cos(math.pi * step / options.steps))


def parameter_groups(network: FeatureNetwork, options: TrainingOptions) -> list[dict[str, Any]]:
    """Parameters with the factor of their learning rate; damping is not decayed."""
    groups: dict[str, list[nn.Parameter]] = {"encoder": [], "damping": [], "rest": []}
    for name, parameter in network.named_parameters():
        part = name.split(".")[0] if name.split(".")[0] != "extractor" else name.split(".")[1]
        kind = "damping" if "damping" in name else ("encoder" if part == "encoder" else "rest")
        groups[kind].append(parameter)
    factor = {
        "encoder": options.optimizer.encoder,
        "damping": options.optimizer.damping,
        "rest": 1,
    }
    decay = options.optimizer.weight_decay
    return [
        {"params": members, "factor": factor[k], "weight_decay": 0.0 if k == "damping" else decay}
        for k, members in groups.items()
        if members
    ]


class Trainer:
    """Trains a network, step by step, into a folder of checkpoints and logs."""

    def __init__(
        self,
        network: FeatureNetwork,
        source: PairSource,
        held_out: PairSource,
        options: TrainingOptions,
        folder: Path,
        processes: Processes | None = None,
        say: Callable[[str], None] = print,
    ) -> None:
        self.options, self.folder = options, folder
        self.processes = processes or Processes()
        self.source, self.held_out = source, held_out
        self.say = say if self.processes.rank == 0 else (lambda _: None)
        self.samples = self.processes.share(source.samples)
        group = options.loss.group
        if options.source == "synthetic" and options.loss.retrieval and len(self.samples) % group:
            raise InputError(
                f"loss.group: {group} scenes are compared with each other, and a process has "
                f"{len(self.samples)} (synthetic.scenes); give a multiple"
            )
        self.model = AlignmentModel(network, options.loss)
        self._parallel: nn.Module = self.model
        if self.processes.count > 1:
            self._parallel = DistributedDataParallel(self.model, broadcast_buffers=False)
        self.optimizer = torch.optim.AdamW(parameter_groups(network, options), lr=1.0)
        self.step = 0
        self.best = math.inf
        self._stop = False
        self._bad = 0

    @property
    def network(self) -> FeatureNetwork:
        return self.model.network

    def resume(self) -> None:
        """Go on from the folder's last checkpoint; its configuration must be this one's.

        Raises CheckpointError or TrainingError.
        """
        path = self.folder / LAST
        content = read_checkpoint(path)
        if "optimizer" not in content or "step" not in content:
            raise CheckpointError(f"{path}: weights alone; training cannot go on from there")
        changed = _difference(content["config"], asdict(self.options))
        if changed:
            raise TrainingError(f"{path}: was trained with another {changed}; use a new folder")
        try:
            self.network.load_state_dict(content["model"])
            self.optimizer.load_state_dict(content["optimizer"])
        except (RuntimeError, ValueError, KeyError) as error:
            raise CheckpointError(f"{path}: {str(error).splitlines()[0]}") from None
        self.step, self.best = int(content["step"]), float(content["best"])

    def run(self) -> bool:
        """Train until the last step, or until asked to stop: whether it finished.

        Raises TrainingError when the loss stays without a finite value; the last good
        checkpoint is kept.
        """
        options = self.options
        main = self.processes.rank == 0
        with self._logs() as (log, board), self._stoppable():
            begun, since = time.monotonic(), self.step
            todo = range(self.step, options.steps)
            for batch in batches(self.source, self.samples, todo, options.workers):
                loss, terms = self._advance(batch)
                self.step += 1
                if main and (self.step % options.log_every == 0 or self.step == options.steps):
                    seconds = (time.monotonic() - begun) / max(self.step - since, 1)
                    entry = {"step": self.step, "loss": loss, **terms}
                    log.write(json.dumps(entry) + "\n")
                    log.flush()
                    board(entry)
                    parts = "  ".join(f"{k} {v:.3f}" for k, v in terms.items() if v)
                    self.say(
                        f"step {self.step}/{options.steps}  loss {loss:.3f}  {parts}  "
                        f"{seconds:.2f} s a step"
                    )
                finished = self.step == options.steps
                if self.step % options.validation.every == 0 or finished:
                    self._validate(board)
                if self._asked_to_stop():
                    self.save(LAST)
                    self.say(f"stopped; {self.folder / LAST} is at step {self.step}")
                    return finished
                if self.step % options.save_every == 0 or finished:
                    self.save(LAST)
        return True

    def _advance(self, batch: PairBatch) -> tuple[float, dict[str, float]]:
        """One step of the optimizer, left out where loss or gradient are not finite."""
        self.model.train()
        # normalization keeps its statistics: small batches have none worth the name, and
        # processes that share a batch would each have their own
        for module in self.network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        self.optimizer.zero_grad(set_to_none=True)
        outcome = self._parallel(batch)
        outcome.total.backward()
        parameters = [p for p in self.network.parameters() if p.grad is not None]
        norm = nn.utils.clip_grad_norm_(parameters, self.options.optimizer.clip)
        loss, terms, steep = self._agree(outcome.total.detach(), outcome.terms, norm)
        if math.isfinite(loss) and math.isfinite(steep):
            share = learning_rate(self.step, self.options) * self.options.optimizer.rate
            for group in self.optimizer.param_groups:
                group["lr"] = share * group["factor"]
            self.optimizer.step()
            self._bad = 0
        else:
            self._bad += 1
            self.say(f"step {self.step + 1}: loss {loss}, gradient {steep}: step left out")
            if self._bad >= MOST_BAD_STEPS:
                raise TrainingError(
                    f"no finite loss for {self._bad} steps, stopped at step {self.step + 1}; "
                    f"the last good checkpoint is {self.folder / LAST}"
                )
        return loss, terms

    def _agree(
        self, loss: Tensor, terms: Any, norm: Tensor
    ) -> tuple[float, dict[str, float], float]:
        """Means over processes, which all decide on them alike."""
        names = sorted(terms)
        values = torch.stack([loss, norm, *(terms[n] for n in names)]).float()
        if self.processes.count > 1:
            torch.distributed.all_reduce(values)
            values = values / self.processes.count
        numbers = values.tolist()
        return numbers[0], dict(zip(names, numbers[2:], strict=True)), numbers[1]

    def _validate(self, board: Callable[..., None]) -> None:
        result = None
        if self.processes.rank == 0:
            steps = range(self.options.validation.batches)
            samples = range(self.held_out.samples)
            made = list(batches(self.held_out, samples, steps))
            result = validate(self.model, made)
            self.say(f"  {result}")
            board({"step": self.step, **_scalars(result)}, "validation")
            board({"step": self.step}, "picture", alignment_picture(self.model, made[0]))
            if math.isfinite(result.loss) and result.loss < self.best:
                self.best = result.loss
                self.save(BEST)
        if self.processes.count > 1:
            torch.distributed.barrier()

    def save(self, name: str) -> None:
        """Write a checkpoint atomically; it loads as weights too."""
        if self.processes.rank:
            return
        path = self.folder / name
        content = {
            "architecture": self.network.architecture,
            "model": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "best": self.best,
            "config": asdict(self.options),
        }
        temporary = path.with_name(path.name + ".partial")
        torch.save(content, temporary)
        os.replace(temporary, path)

    def _asked_to_stop(self) -> bool:
        if self.processes.count == 1:
            return self._stop
        flag = torch.tensor(float(self._stop), device=self.network.device)
        torch.distributed.all_reduce(flag)
        return bool(flag > 0)

    @contextmanager
    def _stoppable(self) -> Iterator[None]:
        """Ctrl-C and SIGTERM end training after the step; a second one ends it at once."""

        def stop(number: int, _: object) -> None:
            if self._stop:
                raise KeyboardInterrupt
            self._stop = True

        before = {s: signal.signal(s, stop) for s in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def _logs(self) -> Iterator[tuple[Any, Callable[..., None]]]:
        if self.processes.rank:
            yield None, lambda *_: None
            return
        from torch.utils.tensorboard import SummaryWriter

        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / LOG, "a") as log:
            writer = SummaryWriter(str(self.folder), purge_step=self.step or None)

            def board(entry: dict[str, float], part: str = "train", picture: Any = None) -> None:
                step = int(entry["step"])
                if picture is not None:
                    writer.add_image(part, picture, step, dataformats="HWC")
                for key, value in entry.items():
                    if key != "step":
                        writer.add_scalar(f"{part}/{key}", value, step)

            try:
                yield log, board
            finally:
                writer.close()


def _scalars(result: ValidationResult) -> dict[str, float]:
    return {k: float(v) for k, v in asdict(result).items()}


def _difference(stored: Any, wanted: Any, prefix: str = "") -> str:
    """The first entry in which two configurations differ in what decides the result."""
    if isinstance(stored, dict) and isinstance(wanted, dict):
        for key in {**stored, **wanted}:
            if prefix == "" and key in ("workers", "log_every", "save_every"):
                continue
            found = _difference(stored.get(key), wanted.get(key), f"{prefix}{key}.")
            if found:
                return found
        return ""
    return "" if stored == wanted else prefix.rstrip(".")
