"""How does a run go from a first step to a last one, and from a kill to the same end?

Batches are functions of the step and the learning rate too, so a checkpoint is weights, optimiser state and a
step number. A run that goes on from it is bit-identical to one that was never interrupted (CPU, same threads).
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from safetensors.torch import save as save_tensors
from torch import Tensor
from tqdm import tqdm
from transformers import PreTrainedModel

from makebreak.artifacts import write_atomic
from makebreak.configs import check_not_negative, check_positive, check_probability
from makebreak.models import save
from makebreak.requests import World
from makebreak.training.adapters import merged

CHECKPOINT, METRICS = "checkpoint.safetensors", "metrics.jsonl"
CHECKPOINTS = "checkpoints"


@runtime_checkable
class Objective(Protocol):
    """What a step of training sees (`Sequences`, or a tuple of them), and its loss.

    `start` is a frozen copy of the model before the first step.
    """

    def batch(self, world: World, *, size: int, step: int, steps: int, seed: int) -> Any: ...

    def loss(
        self, model: PreTrainedModel, batch: Any, start: PreTrainedModel
    ) -> tuple[Tensor, dict[str, float]]: ...


@dataclass(frozen=True)
class Optimisation:
    """AdamW, linear warm-up, cosine decay to `final_share` of the rate; weight decay on matrices outside embeddings.

    checkpoints: how many models of the run are kept, evenly spaced, the last one included.
    """

    steps: int
    learning_rate: float
    batch_size: int = 128
    warmup_share: float = 0.1
    final_share: float = 0.01
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 1e-4
    clip: float = 1.0
    precision: Literal["float32", "bfloat16"] = "float32"
    checkpoints: int = 4

    def __post_init__(self) -> None:
        check_positive(
            steps=self.steps, learning_rate=self.learning_rate, batch_size=self.batch_size, clip=self.clip
        )
        check_positive(checkpoints=self.checkpoints)
        check_not_negative(weight_decay=self.weight_decay)
        for name in ("warmup_share", "final_share"):
            check_probability(name, getattr(self, name))
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas = {self.betas}: expected two numbers from 0 to below 1")

    @property
    def kept(self) -> set[int]:
        """Numbers of steps after which a model is kept, the last one left out."""
        return {self.steps * i // self.checkpoints for i in range(1, self.checkpoints)} - {0}

    def rate(self, step: int) -> float:
        """Learning rate of a step, counted from 0."""
        warmup = self.warmup_share * self.steps
        if step < warmup:
            return self.learning_rate * (step + 1) / (warmup + 1)
        done = (step - warmup) / max(self.steps - warmup, 1)
        return self.learning_rate * (
            self.final_share + (1 - self.final_share) * 0.5 * (1 + math.cos(math.pi * done))
        )


class TrainingStopped(RuntimeError):
    """A loss was not finite."""


def train(
    model: PreTrainedModel,
    objective: Objective,
    optimisation: Optimisation,
    world: World,
    folder: Path,
    *,
    seed: int,
    label: str,
    checkpoint_seconds: float = 10.0,
    write: Callable[[PreTrainedModel, Path], object] | None = None,
) -> PreTrainedModel:
    """Train a model in place and save it in `folder`, going on from a checkpoint that lies there.

    write: saves a model into a folder; by default with the world's symbols.

    Models kept on the way lie in `folder`/checkpoints/STEP, adapters merged. An accelerator is used where there is one.
    Raises TrainingStopped where the loss is not finite, naming the step and the last good checkpoint.
    """
    keep = write or partial(save, symbols=world.vocabulary.symbols)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device)  # type: ignore[arg-type]
    start = copy.deepcopy(model).eval().requires_grad_(False)
    optimiser = _adamw(model.train(), optimisation)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    first = _restore(model, optimiser, folder)
    saved, last_save = first, time.monotonic()
    bar = tqdm(
        total=optimisation.steps, initial=first, desc=label, disable=not sys.stderr.isatty(), leave=False
    )
    with bar, (folder / METRICS).open("a") as metrics:
        for step in range(first, optimisation.steps):
            for group in optimiser.param_groups:
                group["lr"] = optimisation.rate(step)
            batch = objective.batch(
                world, size=optimisation.batch_size, step=step, steps=optimisation.steps, seed=seed
            )
            batch = _to(batch, device)
            with torch.autocast(device.type, torch.bfloat16, enabled=optimisation.precision == "bfloat16"):
                loss, parts = objective.loss(model, batch, start)
            value = loss.item()
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(trained, optimisation.clip)
            if not (math.isfinite(value) and math.isfinite(norm.item())):
                kept = (
                    f"the checkpoint of step {saved} is in {folder}"
                    if saved
                    else "no checkpoint was written yet"
                )
                found = f"loss is {value}, gradient norm {norm.item()} at step {step}"
                remedy = f"lower learning_rate = {optimisation.learning_rate}"
                raise TrainingStopped(f"{label}: {found}; {kept}; {remedy}")
            optimiser.step()
            bar.update()
            if step % 10 == 0 or step + 1 == optimisation.steps:
                row = {
                    "step": step,
                    "loss": value,
                    "lr": optimisation.rate(step),
                    "grad_norm": norm.item(),
                    **parts,
                }
                metrics.write(json.dumps(row) + "\n")
                bar.set_postfix(loss=f"{value:.3f}")
            if step + 1 in optimisation.kept:
                keep(merged(model), folder / CHECKPOINTS / f"{step + 1:06d}")
            if time.monotonic() - last_save > checkpoint_seconds and step + 1 < optimisation.steps:
                metrics.flush()
                _checkpoint(model, optimiser, folder, step + 1)
                saved, last_save = step + 1, time.monotonic()
    keep(merged(model.eval()), folder)
    (folder / CHECKPOINT).unlink(missing_ok=True)
    return model


def _to(batch: Any, device: torch.device) -> Any:
    """Sequences, or a tuple of them, on a device."""
    return tuple(part.to(device) for part in batch) if isinstance(batch, tuple) else batch.to(device)


def _adamw(model: PreTrainedModel, optimisation: Optimisation) -> torch.optim.AdamW:
    embeddings = {id(p) for m in model.modules() if isinstance(m, torch.nn.Embedding) for p in m.parameters()}
    trained = [p for p in model.parameters() if p.requires_grad]
    decayed = [p for p in trained if p.ndim >= 2 and id(p) not in embeddings]
    others = [p for p in trained if p.ndim < 2 or id(p) in embeddings]
    groups = [
        {"params": decayed, "weight_decay": optimisation.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=optimisation.learning_rate, betas=optimisation.betas, fused=True)


def _checkpoint(model: PreTrainedModel, optimiser: torch.optim.AdamW, folder: Path, step: int) -> None:
    names = {id(p): name for name, p in model.named_parameters()}
    tensors = {f"model.{name}": tensor for name, tensor in _untied(model).items()}
    for parameter, state in optimiser.state.items():
        tensors |= {
            f"{part}.{names[id(parameter)]}": state[part] for part in ("exp_avg", "exp_avg_sq", "step")
        }
    contiguous = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    said = {"run": folder.name, "sha256": _digest(contiguous), "metrics": _digest_of(_rows(folder, step))}
    write_atomic(folder / CHECKPOINT, save_tensors(contiguous, metadata=said))


def _untied(model: PreTrainedModel) -> dict[str, Tensor]:
    """The tensors of a model, each once."""
    once: dict[int, str] = {}
    state = model.state_dict()
    return {
        name: tensor for name, tensor in state.items() if once.setdefault(tensor.data_ptr(), name) == name
    }


def _digest(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _restore(model: PreTrainedModel, optimiser: torch.optim.AdamW, folder: Path) -> int:
    """Load what an interrupted run left; returns the step to go on with. Later metrics rows are dropped."""
    step, path = 0, folder / CHECKPOINT
    if path.exists():
        try:
            with safe_open(path, "pt") as file:
                said = file.metadata() or {}
            tensors = load_file(path)
            if said.get("sha256") != _digest(tensors):
                raise ValueError("its tensors are not those that were saved")
            own = {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}
            if own.keys() != _untied(model).keys():
                raise ValueError("its tensors are another model's")
            model.load_state_dict(own, strict=False)  # tied ones come with those they are tied to
            trained = {
                name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad
            }
            for name, parameter in trained.items():
                parts = ("exp_avg", "exp_avg_sq", "step")
                optimiser.state[parameter] = {
                    part: tensors[f"{part}.{name}"].to(parameter.device, copy=True) for part in parts
                }
            step = int(tensors[f"step.{next(iter(trained))}"].item())
        except (SafetensorError, KeyError, RuntimeError, ValueError) as error:
            raise ValueError(f"{path} is damaged ({error}): delete it to begin this run anew") from None
        if said.get("run") != folder.name:
            raise ValueError(f"{path} is of another run, {said.get('run')}: delete it to begin this run anew")
        if said.get("metrics") != _digest_of(_rows(folder, step)):
            raise ValueError(f"{folder / METRICS} is damaged: delete {path} to begin this run anew")
    write_atomic(folder / METRICS, _rows(folder, step))
    return step


def _rows(folder: Path, step: int) -> str:
    """The metrics of the steps before this one."""
    metrics = folder / METRICS
    lines = metrics.read_text(errors="replace").splitlines(keepends=True) if metrics.exists() else []
    return "".join(line for line in lines if _step(line) < step)


def _digest_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _step(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):  # torn or damaged
        return math.inf
