"""Soft prompts: embeddings that no token has, optimised towards the instructed answer.

The vectors are inserted before the end of the request and found by projected gradient descent (Jain et al.
2024, §2.4 of their code).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from makebreak.activations import PrefixCache
from makebreak.attacks.slots import AdversarialSlots, SlotLocation, fill_slots, insert_slots
from makebreak.configs import check_positive
from makebreak.evaluation import (
    score_targets,
    target_nll,
)
from makebreak.prompts import Requests, target_sequences
from makebreak.seeds import control_seed

Penalty = Callable[[PreTrainedModel, Requests], Float[Tensor, " n"]]
"""A differentiable penalty per request that an adaptive attack adds to its loss, such as a monitor's
score."""
_BATCH_SIZE = 512
"""Requests whose soft prompts are optimised together."""
_INITIAL_SCALE = 0.01
"""Standard deviation of the initial vectors."""
_MIN_NORM = 1e-30


@dataclass(frozen=True)
class SoftPromptSettings:
    """Settings of a soft-prompt attack."""

    tag: ClassVar[str] = "SoftTokens"
    n_tokens: int = 10
    """Vectors per request."""
    steps: int = 10
    """Steps of projected gradient descent."""
    radius: float = 1.0
    """Radius of the ball that each vector stays in, times the mean norm of the prompts' embeddings."""
    where: SlotLocation = "suffix"
    """`suffix`, directly after the text, or `prefix`, directly before it."""
    universal: bool = False
    """Whether all requests share the same vectors."""
    share_position: bool = field(default=True, metadata={"key": "held"})
    """Whether the vectors share the position id of the token after them, so that this token keeps the
    position it had in training; a model trained on one fixed layout answers nothing otherwise."""
    as_released: bool = field(default=False, metadata={"key": "released"})
    """Whether to follow the released code, which keeps every coordinate rather than every vector within the
    radius and does not normalise the last vector's gradient."""

    def __post_init__(self) -> None:
        check_positive(n_tokens=self.n_tokens, steps=self.steps, radius=self.radius)
        if self.where == "unused":
            raise ValueError(
                "where = 'unused': a soft prompt is inserted between tokens; expected 'suffix' or 'prefix'"
            )


@dataclass(frozen=True)
class SoftPromptResult:
    """Requests with a soft prompt in their slots."""

    requests: Requests
    """The requests; ids from d_vocab on stand for the vectors, in order, k per request."""
    positions: np.ndarray
    """(n, k) positions of the vectors in each prompt."""
    vectors: Float[Tensor, "vectors d_model"]
    """The n · k embeddings."""
    loss: Float[Tensor, " n"]
    """Loss of the target with these vectors, in nats per token."""
    radius: float
    """Radius of the ball, in units of the embeddings."""
    share_position: bool
    """Whether the vectors share the position id of the token after them."""

    def attach(self, model: PreTrainedModel) -> AbstractContextManager[None]:
        """Returns a context in which the model accepts the ids of these requests."""
        return soft_prompt_embeddings(model, self.vectors, share_position=self.share_position)


@contextmanager
def soft_prompt_embeddings(
    model: PreTrainedModel, vectors: Float[Tensor, "vectors d_model"], *, share_position: bool
) -> Iterator[None]:
    """Context in which ids from d_vocab on are embedded as the given vectors.

    Args:
        model: The model whose input embedding is extended.
        vectors: The vectors of the ids d_vocab, d_vocab + 1 and so on.
        share_position: Whether such a token shares the position id of the token after it, so that no other
            token changes its position id.

    Yields:
        Nothing; on leaving, the model is as it was.
    """
    embedding: Any = model.get_input_embeddings()
    d_vocab = embedding.weight.shape[0]

    def share_positions(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        ids = args[0] if args else kwargs["input_ids"]
        real = (ids < d_vocab).long()
        cache = kwargs.get("past_key_values")
        n_cached = (
            0 if cache is None else cache.get_seq_length()
        )  # tokens before the slots, none of them soft
        # without a mask, transformers reads position ids that do not increase as several packed sequences
        mask = ids.new_ones(len(ids), n_cached + ids.shape[1])
        position_ids = n_cached + real.cumsum(dim=1) - real
        return args, kwargs | {"position_ids": position_ids, "attention_mask": mask}

    handle = None
    if share_position:
        handle = model.base_model.register_forward_pre_hook(share_positions, with_kwargs=True)
    model.set_input_embeddings(_ExtendedEmbedding(embedding, vectors))
    try:
        yield
    finally:
        model.set_input_embeddings(embedding)
        if handle is not None:
            handle.remove()


class _ExtendedEmbedding(nn.Module):
    """An embedding with further rows for ids from d_vocab on."""

    def __init__(self, embedding: nn.Module, vectors: Tensor) -> None:
        super().__init__()
        self.embedding, self.vectors = embedding, vectors
        self.weight: Any = embedding.weight

    def forward(self, ids: Tensor) -> Tensor:
        d_vocab = self.weight.shape[0]
        embedded = self.embedding(ids.clamp(max=d_vocab - 1))
        soft = ids >= d_vocab
        if not soft.any():
            return embedded
        return embedded.masked_scatter(soft[..., None], self.vectors[ids[soft] - d_vocab].to(embedded))


def check_gradients(model: PreTrainedModel) -> None:
    """Raises ValueError if the loss cannot be differentiated by the model's embeddings."""
    weight: Any = model.get_input_embeddings().weight  # type: ignore[union-attr]
    if not weight.is_floating_point():
        reason = f"its embeddings are {weight.dtype}"
    elif any(parameter.is_inference() for parameter in model.parameters()):
        reason = "its weights were made in torch.inference_mode"
    elif not torch.is_grad_enabled():
        reason = "torch.no_grad is on"
    else:
        return
    raise ValueError(
        f"{type(model).__name__} gives no gradients ({reason}): expected a model that can be differentiated"
    )


def optimise_soft_prompt(
    model: PreTrainedModel,
    requests: Requests,
    settings: SoftPromptSettings,
    *,
    seed: int,
    penalty: Penalty | None = None,
    progress: Callable[[int], object] = lambda _: None,
) -> SoftPromptResult:
    """Optimises a soft prompt for each request, or one for all, and returns the vectors of least loss.

    Args:
        model: The model that is attacked.
        requests: The requests; the targets are their instructed answers.
        settings: Settings of the attack.
        seed: Seed of the initial vectors.
        penalty: Added to the loss; None for no penalty.
        progress: Called with the number of requests that are finished, after every batch.

    Returns:
        The requests with their soft prompts.

    Raises:
        ValueError: If prompt and answer would exceed the model's context, or the model gives no gradients.
    """
    parts = [slice(start, start + _BATCH_SIZE) for start in range(0, len(requests), _BATCH_SIZE)]
    if settings.universal:
        parts = [slice(0, len(requests))]
    check_gradients(model)
    slots, radius = _make_slots(model, requests, settings), _radius(model, requests, settings)
    random = torch.Generator().manual_seed(seed)
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in trainable:
        parameter.requires_grad_(False)
    vectors = []
    try:
        for part in parts:
            batch = AdversarialSlots(slots.requests[part], slots.positions[part])
            vectors.append(_descend(model, batch, settings, radius, random, penalty))
            progress(len(batch.positions))
    finally:
        for parameter in trainable:
            parameter.requires_grad_(True)
    return insert_soft_prompt(model, requests, settings, torch.cat(vectors))


def random_soft_prompt(
    model: PreTrainedModel, requests: Requests, settings: SoftPromptSettings, *, seed: int
) -> SoftPromptResult:
    """Returns the control of an attack: vectors in random directions on the surface of the same ball.

    Args:
        model: The model that is attacked.
        requests: The requests.
        settings: Settings of the attack that is controlled for.
        seed: Seed of that attack; the control derives its own from it.

    Returns:
        The requests with random soft prompts.
    """
    n, d_model = (1 if settings.universal else len(requests)), model.config.hidden_size
    random = torch.Generator().manual_seed(control_seed(seed))
    noise = torch.randn(n, settings.n_tokens, d_model, generator=random)
    vectors = _radius(model, requests, settings) * noise / noise.norm(dim=-1, keepdim=True)
    return insert_soft_prompt(model, requests, settings, vectors.to(model.device))


def insert_soft_prompt(
    model: PreTrainedModel,
    requests: Requests,
    settings: SoftPromptSettings,
    vectors: Float[Tensor, "n k d_model"],
) -> SoftPromptResult:
    """Inserts given vectors into requests and computes the loss of the targets.

    Args:
        model: The model that is attacked.
        requests: The requests.
        settings: Settings that say where the vectors are inserted.
        vectors: One set of vectors for each request, or (1, k, d_model) for all.

    Returns:
        The requests with the vectors.
    """
    slots, table = _make_slots(model, requests, settings), _embedding_table(model)
    flat = vectors.detach().to(table).expand(len(requests), -1, -1).flatten(0, 1)
    attacked = _with_soft_ids(slots, len(table))
    with soft_prompt_embeddings(model, flat, share_position=settings.share_position):
        loss = target_nll(model, attacked, "instructed").nll
    radius = _radius(model, requests, settings)
    return SoftPromptResult(attacked, slots.positions, flat, loss, radius, settings.share_position)


def _embedding_table(model: PreTrainedModel) -> Tensor:
    embedding: Any = model.get_input_embeddings()
    return embedding.weight


def _make_slots(model: PreTrainedModel, requests: Requests, settings: SoftPromptSettings) -> AdversarialSlots:
    """The requests with slots, filled by the first id beyond the vocabulary."""
    n_ctx = None if settings.share_position else getattr(model.config, "max_position_embeddings", None)
    token = len(_embedding_table(model))
    return insert_slots(requests, settings.n_tokens, settings.where, token=token, n_ctx=n_ctx)


def _radius(model: PreTrainedModel, requests: Requests, settings: SoftPromptSettings) -> float:
    """Radius of the ball in units of the embeddings."""
    embedding: Any = model.get_input_embeddings()
    ids = torch.from_numpy(requests.prompt)
    real = torch.arange(ids.shape[1]) < torch.from_numpy(requests.prompt_length)[:, None]
    with torch.no_grad():
        return settings.radius * float(embedding(ids[real].to(model.device)).float().norm(dim=1).mean())


def _with_soft_ids(slots: AdversarialSlots, d_vocab: int) -> Requests:
    """The requests with an id of its own for each vector of each request."""
    return fill_slots(slots, d_vocab + np.arange(slots.positions.size).reshape(slots.positions.shape))


def _descend(
    model: PreTrainedModel,
    slots: AdversarialSlots,
    settings: SoftPromptSettings,
    radius: float,
    random: torch.Generator,
    penalty: Penalty | None,
) -> Float[Tensor, "n k d_model"]:
    """Vectors of the least loss met in projected gradient descent, for one batch of requests."""
    (n, k), table = slots.positions.shape, _embedding_table(model)
    requests = _with_soft_ids(slots, len(table))
    batch = target_sequences(requests, "instructed")
    cache = PrefixCache.of_rows(model, batch.tokens, int(slots.positions.min()))
    step_size = 2 * radius / settings.steps  # as many steps as cross the ball once
    n_sets = 1 if settings.universal else n
    vectors = _INITIAL_SCALE * torch.randn(n_sets, k, table.shape[1], generator=random).to(table)
    best, least = vectors.expand(n, -1, -1).clone(), torch.full((n,), torch.inf)
    for step in range(settings.steps + 1):
        vectors.requires_grad_()
        flat = vectors.expand(n, -1, -1).flatten(0, 1)
        with soft_prompt_embeddings(model, flat, share_position=settings.share_position):
            loss = score_targets(model, batch, cache=cache).nll
            objective = loss if penalty is None else loss + penalty(model, requests)
        current = objective.mean().expand(n) if settings.universal else objective
        current = current.detach().float().cpu()
        better = current < least
        best[better] = vectors.detach().expand(n, -1, -1)[better]
        least = torch.minimum(current, least)
        if step == settings.steps:
            break
        [gradient] = torch.autograd.grad(objective.sum(), vectors)
        direction = _unit(gradient, as_released=settings.as_released)
        vectors = _project(vectors.detach() - step_size * direction, radius, as_released=settings.as_released)
    return best


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
