"""The stacked engine: many runs of one architecture, world and number of steps, trained in one step.

A member has the batches, the learning rate and the objective of its single run, and nothing of its
neighbours; its weights differ from those of the single run by rounding. The state of a stack is written as a
whole, so that an interrupted stack resumes bit for bit (CPU, same number of threads).
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.budget import check_time, is_over
from makebreak.models import ModelConfig, free_memory, save_model, stack_models
from makebreak.progress import ProgressBar
from makebreak.prompts import World
from makebreak.store import report_damage, write_atomic
from makebreak.training.adapters import merge_adapters
from makebreak.training.loop import LOG_EVERY, Optimisation, TrainingRun, TrainingStopped
from makebreak.training.objective import Objective
from makebreak.training.resumption import (
    CHECKPOINT,
    CHECKPOINTS,
    METRICS,
    metrics_before,
    read_tensors,
    text_digest,
    write_tensors,
)
from makebreak.training.stack import StackState
from makebreak.training.stack_batches import (
    BatchPlan,
    check_stackable,
    default_workers,
    stack_batches,
)

SYNCHRONISE_EVERY = 50
"""Steps between two moments at which the host waits for the device."""
_STEP, _METRICS = "step", "metrics"


class Member(NamedTuple):
    """One run of a stack."""

    objective: Objective
    """What each step sees, and the loss."""
    optimisation: Optimisation
    """Settings of the optimiser; those of a stack differ in learning rate, weight decay and clip alone."""
    run: TrainingRun
    """Seed of the batches, label and how a model is saved."""


@dataclass(frozen=True)
class StackOptions:
    """How a stack is run; nothing of it changes what is learned beyond rounding."""

    device: str = "cpu"
    """Device of the stack, such as `cuda`."""
    compile: bool | None = None
    """Whether the step is compiled; None compiles it on an accelerator alone."""
    n_workers: int | None = None
    """Processes that make batches; None for none on a CPU, and all cores but one with an accelerator."""
    checkpoint_seconds: float = 60.0
    """Least time between two checkpoints of the state, in seconds."""


class Moment(NamedTuple):
    """A moment at which the host had waited for all steps so far."""

    step: int
    """Number of finished steps."""
    seconds: float
    """Clock, in seconds."""
    waiting_seconds: float
    """Time that the host has waited for batches since the first step, in seconds."""


class TrainedStack(NamedTuple):
    """A stack after its last step."""

    models: Sequence[PreTrainedModel]
    """The models, with the weights of the last step, on the CPU in evaluation mode."""
    failures: dict[int, TrainingStopped]
    """Members whose loss or gradient was not finite; their weights are those of the step before."""
    write: Callable[[int, Path], None]
    """Writes one member into a folder as a single run does: model, kept steps and metrics."""
    moments: list[Moment]
    """The clock at every synchronisation of this process."""


def train_stack(
    models: Sequence[PreTrainedModel],
    members: Sequence[Member],
    world: World,
    folder: Path,
    options: StackOptions = StackOptions(),
) -> TrainedStack:
    """Trains many models in place, all in one step, resuming from a checkpoint that lies in the folder.

    A damaged checkpoint, or one of another stack, is not resumed from: the stack begins anew and says so.

    Args:
        models: Models of one architecture and size, on the CPU.
        members: What each model is trained on, and how.
        world: Source of the requests.
        folder: An existing folder for the state of the stack.
        options: Device and speed.

    Returns:
        The stack, whose members can be written.

    Raises:
        ValueError: If the runs do not fit together.
        OutOfTime: If the time budget of the process is used up; a checkpoint has been written.
    """
    _check_members(models, members)
    device = torch.device(options.device)
    stack = stack_models(models).to(device).train()  # type: ignore[arg-type]
    first = members[0].optimisation
    state = StackState(stack, [m.optimisation for m in members], models[0])
    run = _Run(stack, state, members, folder, options)
    start = run.restore()
    plan = BatchPlan(
        world,
        tuple(member.objective for member in members),
        tuple(member.run.seed for member in members),
        first.batch_size,
        first.steps,
    )
    n_workers = options.n_workers
    if n_workers is None:
        n_workers = default_workers(device)
    batches = stack_batches(plan, device, first_step=start, n_workers=n_workers)
    with ProgressBar(f"{len(members)} models", first.steps, initial=start) as bar:
        for step in range(start, first.steps):
            begin = time.perf_counter()
            batch = next(batches)
            run.waiting_seconds += time.perf_counter() - begin
            run.step(step, batch)
            bar.update()
            if run.has_ended:
                break
    for i, model in enumerate(models):
        run.load_member(i, model.eval(), first.steps)
    write = partial(_write_member, models, members, world, run)
    return TrainedStack(models, run.failures(), write, run.moments)


def _check_members(models: Sequence[PreTrainedModel], members: Sequence[Member]) -> None:
    """Raises ValueError unless the runs can be trained together."""
    if not members or len(models) != len(members):
        raise ValueError(f"{len(models)} models and {len(members)} runs: expected one run for each model")
    check_stackable([member.objective for member in members])
    first = members[0].optimisation
    for i, (_, optimisation, run) in enumerate(members):
        own = {"learning_rate": first.learning_rate, "weight_decay": first.weight_decay, "clip": first.clip}
        if replace(optimisation, **own) != first:
            raise ValueError(
                f"member {i} ({run.label}) has {optimisation}: expected the settings of member 0, {first}, "
                "but for learning_rate, weight_decay and clip"
            )


_compiled_for: list[Any] = []


def _forget_other_shapes(shapes: Any) -> None:
    """Drops compiled steps unless they are for these shapes: few kept versions per function are allowed."""
    if _compiled_for != [shapes]:
        torch._dynamo.reset()
        _compiled_for[:] = [shapes]


class _Run:
    """State of a stack in training: a step, its checkpoints and its metrics."""

    def __init__(
        self,
        stack: PreTrainedModel,
        state: StackState,
        members: Sequence[Member],
        folder: Path,
        options: StackOptions,
    ) -> None:
        self.state, self.folder = state, folder
        self._stack, self._members, self._options = stack, members, options
        self._optimisation = members[0].optimisation
        self._reference = copy.deepcopy(stack).eval().requires_grad_(False)
        objective = _stacked_objective([member.objective for member in members], state.weights)
        compiles = state.weights.device.type != "cpu" if options.compile is None else options.compile
        wrap: Any = partial(torch.compile, dynamic=False) if compiles else lambda function: function
        self._loss, self._update = wrap(objective.loss), wrap(state.update)
        if compiles:
            _forget_other_shapes((len(members), type(objective), self._optimisation.batch_size, state.shapes))
        self.moments: list[Moment] = []
        self.waiting_seconds = 0.0
        self.has_ended = False
        """Whether the loss or the gradient of no member is finite any more."""
        self._logged: list[tuple[int, dict[str, Tensor]]] = []
        self._last_time = time.monotonic()

    def step(self, step: int, batch: Any) -> None:
        """One step of all members; every so many steps the host waits, writes and checks."""
        optimisation, device = self._optimisation, self.state.weights.device
        with torch.autocast(device.type, torch.bfloat16, enabled=optimisation.precision == "bfloat16"):
            losses, metrics = self._loss(self._stack, batch, self._reference)
        if losses.ndim == 0 and len(self._members) == 1:
            losses = losses[None]
        if losses.shape != self.state.stopped_at.shape:
            name = type(self._members[0].objective).__name__
            raise ValueError(
                f"{name}.loss returned the shape {tuple(losses.shape)} for {len(self._members)} models: "
                "expected one loss each; take means over the first axis alone, values.mean(dim=0)"
            )
        gradient, constants = self.state.gradient(losses), self.state.step_constants(step)
        with torch.no_grad():
            norms = self._update(losses.detach(), gradient, constants)
        is_last = step + 1 == optimisation.steps
        if step % LOG_EVERY == 0 or is_last:
            own = {name: torch.as_tensor(metric, device=device).detach() for name, metric in metrics.items()}
            self._logged.append((step, {"loss": losses.detach(), "grad_norm": norms, **own}))
        if step + 1 in optimisation.checkpoint_steps:
            self._write(f"{CHECKPOINTS}/{step + 1:06d}.safetensors", {"weights": self.state.weights})
        if is_last or (step + 1) % SYNCHRONISE_EVERY == 0:
            self._synchronise(step, is_last)

    def _synchronise(self, step: int, is_last: bool) -> None:
        """Writes metrics, and a checkpoint if one is due."""
        with (self.folder / METRICS).open("a") as file:
            for logged_step, values in self._logged:
                lists = {name: value.expand(len(self._members)).tolist() for name, value in values.items()}
                file.write(json.dumps({_STEP: logged_step, **lists}) + "\n")
        self._logged = []
        if self.state.weights.is_cuda:
            torch.cuda.synchronize()
        self.moments.append(Moment(step + 1, time.perf_counter(), self.waiting_seconds))
        due = is_over() or time.monotonic() - self._last_time > self._options.checkpoint_seconds
        if is_last or due:
            tensors = self.state.tensors() | {_STEP: torch.tensor(step + 1)}
            self._write(CHECKPOINT, tensors | {_METRICS: self._metrics_digest(step + 1)})
            self._last_time = time.monotonic()
            if not is_last:
                check_time(f"a stack of {len(self._members)} models")
        self.has_ended = not bool(self.state.stopped_at.isinf().any())

    def failures(self) -> dict[int, TrainingStopped]:
        """Errors of the members whose loss or gradient was not finite, by number."""
        return {
            i: TrainingStopped(
                f"{member.run.label}: loss or gradient is not finite at step {int(step)}; lower "
                f"learning_rate = {member.optimisation.learning_rate}"
            )
            for i, (step, member) in enumerate(
                zip(self.state.stopped_at.tolist(), self._members, strict=True)
            )
            if step != float("inf")
        }

    def _write(self, name: str, tensors: dict[str, Tensor]) -> None:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        write_tensors(path, self.folder.name, tensors)

    def _metrics_digest(self, step: int) -> Tensor:
        """SHA-256 of the metrics before a step, as bytes."""
        return torch.tensor(list(bytes.fromhex(text_digest(metrics_before(self.folder, step)))))

    def restore(self) -> int:
        """Loads the checkpoint of an interrupted stack, drops later metrics, returns the next step."""
        step, path = 0, self.folder / CHECKPOINT
        if path.exists():
            try:
                tensors, _ = read_tensors(path, self.folder.name)
                n_steps, path = int(tensors[_STEP]), self.folder / METRICS
                if not tensors[_METRICS].equal(self._metrics_digest(n_steps)):
                    raise ValueError(f"{path} is not what was written")
                for earlier in sorted(s for s in self._optimisation.checkpoint_steps if s <= n_steps):
                    path = self.folder / CHECKPOINTS / f"{earlier:06d}.safetensors"
                    read_tensors(path, self.folder.name)
                path = self.folder / CHECKPOINT
                self.state.load(tensors)
                step = n_steps
            except (ValueError, LookupError, RuntimeError):
                report_damage(path, f"the stack of {len(self._members)} models begins anew")
        write_atomic(self.folder / METRICS, metrics_before(self.folder, step))
        return step

    def load_member(self, i: int, model: PreTrainedModel, step: int) -> None:
        """Gives a single model a member's weights at a kept step or after the last one."""
        if step == self._optimisation.steps:
            row = self.state.weights[i].detach().cpu()
        else:
            with safe_open(self.folder / CHECKPOINTS / f"{step:06d}.safetensors", "pt") as file:
                row = file.get_slice("weights")[i]
        model.load_state_dict(self.state.member(row), strict=False)


def _stacked_objective(objectives: Sequence[Objective], like: Tensor) -> Objective:
    """The objective of a stack: numbers that differ between members become one number for each."""
    stacked = copy.copy(objectives[0])
    for name in stacked.member_settings:
        values = [getattr(objective, name) for objective in objectives]
        if all(isinstance(value, int | float) for value in values) and len(set(values)) > 1:
            object.__setattr__(stacked, name, torch.tensor(values, device=like.device, dtype=like.dtype))
    return stacked


def _write_member(
    models: Sequence[PreTrainedModel],
    members: Sequence[Member],
    world: World,
    run: _Run,
    i: int,
    folder: Path,
) -> None:
    """Writes one member as a single run does."""
    _, optimisation, settings = members[i]
    save = settings.save or partial(save_model, symbols=world.vocabulary.symbols)
    model = models[i]
    for step in [*sorted(optimisation.checkpoint_steps), optimisation.steps]:
        run.load_member(i, model, step)
        is_last = step == optimisation.steps
        save(merge_adapters(model), folder if is_last else folder / CHECKPOINTS / f"{step:06d}")
    lines = []
    for line in (run.folder / METRICS).read_text().splitlines():
        row = json.loads(line)
        step = row.pop(_STEP)
        own = {name: values[i] for name, values in row.items()}
        rate = optimisation.learning_rate_at(step)
        lines.append(json.dumps({_STEP: step, "loss": own.pop("loss"), "lr": rate, **own}) + "\n")
    write_atomic(folder / METRICS, "".join(lines))


def remove_stack(folder: Path) -> None:
    """Removes the state of a stack whose members are stored, and nothing else."""
    for path in (
        folder / CHECKPOINT,
        folder / METRICS,
        *(folder / CHECKPOINTS).glob("[0-9]" * 6 + ".safetensors"),
    ):
        path.unlink(missing_ok=True)
    for empty in (folder / CHECKPOINTS, folder):
        if empty.is_dir() and not any(empty.iterdir()):
            empty.rmdir()


_MOST_MEMBERS_ON_CPU, _MOST_MEMBERS = 32, 256
"""Most members of a stack: more have gained nothing."""
_MOST_ROWS = 2**16 - 1
"""Most rows of a forward pass, which attention kernels of CUDA count in 16 bits."""
_MEMORY_SHARE = 0.5
"""Share of the free memory of an accelerator that a stack may take."""
_COPIES_OF_WEIGHTS = 10
"""Weights, reference, gradient, moments and temporary results of the optimiser, in copies of the weights."""
_ACTIVATIONS = 34
"""Numbers that a block keeps of each token for the backward pass, in multiples of d_model."""


def largest_stack(model: ModelConfig, world: World, optimisation: Optimisation, device: str) -> int:
    """Number of members whose training fits the free memory of a device, within what has been useful.

    Args:
        model: Size of the members.
        world: World of the requests.
        optimisation: Settings of the optimiser.
        device: Device of the stack.

    Returns:
        At least 1.
    """
    if device == "cpu":
        return _MOST_MEMBERS_ON_CPU
    most = min(_MOST_MEMBERS, _MOST_ROWS // (2 * optimisation.batch_size))  # pairs of answers
    d_vocab, width = len(world.vocabulary), model.d_model
    n_parameters = model.n_layers * (4 * width + 3 * model.d_mlp) * width + 2 * d_vocab * width
    per_token = model.n_layers * _ACTIVATIONS * width + 4 * d_vocab
    tokens = 2 * optimisation.batch_size * world.sequence_length
    n_bytes = 4 * (_COPIES_OF_WEIGHTS * n_parameters + per_token * tokens)
    free = free_memory(torch.device(device))
    return max(1, min(most, int(_MEMORY_SHARE * free / n_bytes)))
