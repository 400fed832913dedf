"""Soft prompts: embeddings that no token has, optimised towards the instructed answer.

The vectors are inserted before the end of the request and optimised by projected gradient descent (Jain et
al. 2024, §2.4 of their code).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.activations import PrefixCache
from makebreak.attacks.result import AttackResult, Progress, score_attack
from makebreak.attacks.slots import AdversarialSlots, SlotLocation, fill_slots, insert_slots
from makebreak.attacks.soft_embeddings import SoftPromptResult, check_gradients, soft_prompt_embeddings
from makebreak.configs import check_positive
from makebreak.errors import InvalidInput
from makebreak.evaluation import ChatTarget, Target, score_targets, target_nll
from makebreak.prompts import Requests, target_sequences
from makebreak.seeds import control_seed
from makebreak.settings import AttackSizes

Penalty = Callable[[PreTrainedModel, Requests, PrefixCache], Float[Tensor, " n"]]
"""A differentiable penalty per request that an adaptive attack adds to its loss, such as a monitor's score;
the cache holds the first tokens of the prompts."""
_BATCH_SIZE = 512
"""Requests whose soft prompts are optimised together."""
_INITIAL_SCALE = 0.01
"""Standard deviation of the initial vectors."""
_MIN_NORM = 1e-30


@dataclass(frozen=True)
class SoftPrompt:
    """Attack by embeddings that are optimised for each request."""

    tag: ClassVar[str] = "SoftTokens"
    n_tokens: int = 10
    """Vectors per request."""
    steps: int = 10
    """Steps of projected gradient descent."""
    radius: float = 1.0
    """Radius of the ball that each vector stays in, times the mean norm of the prompts' embeddings."""
    where: SlotLocation = "suffix"
    """`suffix`, directly after the text, or `prefix`, directly before it."""
    share_position: bool = field(default=True, metadata={"key": "held"})
    """Whether the vectors share the position id of the token after them, so that this token keeps the
    position it had in training; a model trained on one fixed layout answers nothing otherwise."""
    as_released: bool = field(default=False, metadata={"key": "released"})
    """Whether to follow the released code, which keeps every coordinate rather than every vector within the
    radius and does not normalise the last vector's gradient."""
    penalty: Penalty | None = None
    """Added to the loss of an adaptive attack, for example a monitor's score; None for no penalty."""
    label: str = ""
    """Name in tables; empty for a name made from the settings."""
    is_control: ClassVar[bool] = False
    revision: ClassVar[int] = 3

    def __post_init__(self) -> None:
        check_positive(n_tokens=self.n_tokens, steps=self.steps, radius=self.radius)
        if self.where == "unused":
            raise ValueError(
                "where = 'unused': a soft prompt is inserted between tokens; expected 'suffix' or 'prefix'"
            )

    @classmethod
    def from_settings(cls, settings: AttackSizes) -> list[SoftPrompt]:
        """The attack of the given sizes on a language model, which keeps ordinary position ids."""
        name = "random soft prompt" if cls.is_control else "soft prompt"
        n_tokens, radius = settings.soft_tokens, settings.soft_radius
        return [cls(n_tokens, settings.steps, radius, settings.where, share_position=False, label=name)]

    @property
    def name(self) -> str:
        """Name of the attack in tables."""
        return self.label or f"{'random soft' if self.is_control else 'soft'} {self.n_tokens}"

    def __call__(
        self, target: Target, requests: Requests, *, seed: int, progress: Progress | None = None
    ) -> AttackResult:
        """Attacks the requests and returns them with their outcomes."""
        return self.apply(target, requests, self.optimise(target, requests, seed=seed, progress=progress))

    def optimise(
        self,
        target: Target,
        requests: Requests,
        *,
        seed: int,
        shared: bool = False,
        progress: Progress | None = None,
    ) -> Float[Tensor, "m k d_model"]:
        """Optimises the vectors by projected gradient descent and returns those of least loss.

        Args:
            target: The target that is attacked.
            requests: The requests; the loss is that of their instructed answers.
            seed: Seed of the initial vectors.
            shared: Whether all requests get the same vectors.
            progress: Called with the number of requests that are finished, after every batch.

        Returns:
            Vectors for each request, or (1, k, d_model) for all, in units of the embeddings, on the CPU.

        Raises:
            ValueError: If prompt and answer would exceed the model's context, the model gives no gradients,
                or vectors would share a position id in a language model.
        """
        self._check_positions(target)
        model = target.model
        size = len(requests) if shared else _BATCH_SIZE
        parts = [slice(start, start + size) for start in range(0, len(requests), size)]
        check_gradients(model)
        slots, radius = self._slots(model, requests), self.ball_radius(model, requests)
        random = torch.Generator().manual_seed(seed)
        trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
        for parameter in trainable:
            parameter.requires_grad_(False)
        vectors = []
        try:
            for part in parts:
                batch = AdversarialSlots(slots.requests[part], slots.positions[part])
                vectors.append(self._descend(model, batch, radius, random, shared=shared))
                if progress is not None:
                    progress(len(batch.positions))
        finally:
            for parameter in trainable:
                parameter.requires_grad_(True)
        return (vectors[0][:1] if shared else torch.cat(vectors)).cpu()

    def apply(
        self,
        target: Target,
        requests: Requests,
        vectors: Float[Tensor, "m k d_model"],
        progress: Progress | None = None,
    ) -> AttackResult:
        """Inserts vectors into requests and returns these with their outcomes.

        Args:
            target: The target that is attacked.
            requests: The requests.
            vectors: One set of vectors for each request, or (1, k, d_model) for all.
            progress: Called with the number of requests answered since the last call.

        Returns:
            The attacked requests.

        Raises:
            InvalidInput: If vectors would share a position id in a language model.
        """
        self._check_positions(target)
        result = self.insert(target.model, requests, vectors)
        return score_attack(self.name, target, result.requests, soft_prompt=result, progress=progress)

    def insert(
        self, model: PreTrainedModel, requests: Requests, vectors: Float[Tensor, "m k d_model"]
    ) -> SoftPromptResult:
        """Inserts vectors, one set for each request or one for all, and computes the targets' loss."""
        slots, table = self._slots(model, requests), _embedding_table(model)
        flat = vectors.detach().cpu().to(table.dtype).expand(len(requests), -1, -1).flatten(0, 1)
        attacked = _with_soft_ids(slots, len(table))
        with soft_prompt_embeddings(model, flat, share_position=self.share_position):
            loss = target_nll(model, attacked, "instructed").nll
        radius = self.ball_radius(model, requests)
        return SoftPromptResult(attacked, slots.positions, flat, loss, radius, self.share_position)

    def _check_positions(self, target: Target) -> None:
        """Raises InvalidInput for shared position ids in a target that generates from padded prompts."""
        if self.share_position and isinstance(target, ChatTarget):
            raise InvalidInput(
                f"{self.name} with share_position=True on a language model: expected share_position=False, "
                "since generation pads prompts on the left and counts positions by itself"
            )

    def ball_radius(self, model: PreTrainedModel, requests: Requests) -> float:
        """Radius of the ball in units of the embeddings."""
        embedding: Any = model.get_input_embeddings()
        ids = torch.from_numpy(requests.prompt)
        real = torch.arange(ids.shape[1]) < torch.from_numpy(requests.prompt_length)[:, None]
        with torch.no_grad():
            return self.radius * float(embedding(ids[real].to(model.device)).float().norm(dim=1).mean())

    def _slots(self, model: PreTrainedModel, requests: Requests) -> AdversarialSlots:
        """The requests with slots, filled by the first id beyond the vocabulary."""
        n_ctx = None if self.share_position else getattr(model.config, "max_position_embeddings", None)
        token = len(_embedding_table(model))
        return insert_slots(requests, self.n_tokens, self.where, token=token, n_ctx=n_ctx)

    def _descend(
        self,
        model: PreTrainedModel,
        slots: AdversarialSlots,
        radius: float,
        random: torch.Generator,
        *,
        shared: bool,
    ) -> Float[Tensor, "n k d_model"]:
        """Vectors of the least loss met in projected gradient descent, for one batch of requests."""
        (n, k), table = slots.positions.shape, _embedding_table(model)
        requests = _with_soft_ids(slots, len(table))
        batch = target_sequences(requests, "instructed")
        cache = PrefixCache.of_rows(model, batch.tokens, int(slots.positions.min()))
        step_size = 2 * radius / self.steps  # as many steps as cross the ball once
        vectors = _INITIAL_SCALE * torch.randn(1 if shared else n, k, table.shape[1], generator=random)
        vectors = vectors.to(table)
        best, least = vectors.expand(n, -1, -1).clone(), torch.full((n,), torch.inf)
        for step in range(self.steps + 1):
            vectors.requires_grad_()
            flat = vectors.expand(n, -1, -1).flatten(0, 1)
            with soft_prompt_embeddings(model, flat, share_position=self.share_position):
                loss = score_targets(model, batch, cache=cache).nll
                objective = loss if self.penalty is None else loss + self.penalty(model, requests, cache)
            current = objective.mean().expand(n) if shared else objective
            current = current.detach().float().cpu()
            better = current < least
            best[better] = vectors.detach().expand(n, -1, -1)[better]
            least = torch.minimum(current, least)
            if step == self.steps:
                break
            [gradient] = torch.autograd.grad(objective.sum(), vectors)
            direction = _unit(gradient, as_released=self.as_released)
            updated = vectors.detach() - step_size * direction
            vectors = _project(updated, radius, as_released=self.as_released)
        return best


@dataclass(frozen=True)
class RandomSoftPrompt(SoftPrompt):
    """Control of a soft prompt: vectors in random directions on the surface of the same ball."""

    tag: ClassVar[str] = "RandomSoftTokens"
    is_control: ClassVar[bool] = True

    def optimise(
        self,
        target: Target,
        requests: Requests,
        *,
        seed: int,
        shared: bool = False,
        progress: Progress | None = None,
    ) -> Float[Tensor, "m k d_model"]:
        """Returns random unit vectors; their seed is derived from that of the attack."""
        n, d_model = (1 if shared else len(requests)), target.model.config.hidden_size
        random = torch.Generator().manual_seed(control_seed(seed))
        noise = torch.randn(n, self.n_tokens, d_model, generator=random)
        return noise / noise.norm(dim=-1, keepdim=True)

    def insert(
        self, model: PreTrainedModel, requests: Requests, vectors: Float[Tensor, "m k d_model"]
    ) -> SoftPromptResult:
        """Inserts unit vectors, scaled to the radius of the ball."""
        return super().insert(model, requests, self.ball_radius(model, requests) * vectors)


def _embedding_table(model: PreTrainedModel) -> Tensor:
    embedding: Any = model.get_input_embeddings()
    return embedding.weight


def _with_soft_ids(slots: AdversarialSlots, d_vocab: int) -> Requests:
    """The requests with an id of its own for each vector of each request."""
    return fill_slots(slots, d_vocab + np.arange(slots.positions.size).reshape(slots.positions.shape))


def _unit(gradient: Tensor, *, as_released: bool) -> Tensor:
    """The gradient with unit norm per vector; in the released variant the last vector's keeps its norm."""
    unit = gradient / gradient.norm(dim=-1, keepdim=True).clamp(min=_MIN_NORM)
    if as_released:
        unit[:, -1] = gradient[:, -1]
    return unit


def _project(vectors: Tensor, radius: float, *, as_released: bool) -> Tensor:
    """The vectors projected onto the ball, or onto the cube of the released variant."""
    if as_released:
        return vectors.clamp(-radius, radius)
    return vectors * (radius / vectors.norm(dim=-1, keepdim=True).clamp(min=_MIN_NORM)).clamp(max=1.0)
