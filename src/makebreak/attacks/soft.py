"""Can vectors that no token stands for make a model answer what it should refuse?

Soft tokens before the end of the request, found by projected gradient descent towards the instructed answer (Jain et
al. 2024, §2.4 of their code).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from makebreak.attacks.placing import Placed, Where, place, written
from makebreak.behaviour import LEAST_PREFIX, aim, behind, near, prefix
from makebreak.configs import check_positive
from makebreak.requests import Requests, target_sequences

Penalty = Callable[[PreTrainedModel, Requests], Float[Tensor, " n"]]
"""What an adaptive attack keeps low besides its loss, per request, differentiable: a monitor's score, as an example."""
_AT_ONCE = 512


@dataclass(frozen=True)
class SoftTokens:
    """Settings of the attack.

    radius: of the ball that each vector stays in, times the mean norm of the prompts' embeddings. universal: the same
    vectors for all requests. held: the vectors share the position of the token behind them, so that this one stays
    where training had it; a model of one fixed layout answers nothing otherwise. released: as the released code has it,
    where every coordinate, not every vector, is kept within the radius, and the last vector's gradient keeps its norm.
    """

    n_tokens: int = 10
    steps: int = 10
    radius: float = 1.0
    where: Where = "suffix"
    universal: bool = False
    held: bool = True
    released: bool = False

    def __post_init__(self) -> None:
        check_positive(n_tokens=self.n_tokens, steps=self.steps, radius=self.radius)
        if self.where == "idle":
            raise ValueError("where = 'idle': soft tokens are put in, expected 'suffix' or 'prefix'")


@dataclass(frozen=True)
class Softened:
    """requests: with ids from d_vocab on for the vectors, k per request. vectors: (n · k, d_model). loss: of the
    target, nats per token, at these vectors. radius: in units of the embeddings."""

    requests: Requests
    at: np.ndarray
    vectors: Float[Tensor, "vectors d_model"]
    loss: Float[Tensor, " n"]
    radius: float
    held: bool

    def inside(self, model: PreTrainedModel) -> Any:
        """A context in which the model knows the ids of these requests."""
        return soft_tokens(model, self.vectors, held=self.held)


@contextmanager
def soft_tokens(
    model: PreTrainedModel, vectors: Float[Tensor, "vectors d_model"], *, held: bool
) -> Iterator[None]:
    """Within, ids from d_vocab on are read as these vectors. held: such a token shares the position of the one behind
    it, and no other one moves."""
    own: Any = model.get_input_embeddings()
    d_vocab = own.weight.shape[0]

    def share_positions(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        ids = args[0] if args else kwargs["input_ids"]
        real = (ids < d_vocab).long()
        past = kwargs.get("past_key_values")
        n_past = (
            0 if past is None else past.get_seq_length()
        )  # of tokens before all attacks, all of them real
        # without a mask, transformers takes positions that do not rise for several texts behind one another
        mask = ids.new_ones(len(ids), n_past + ids.shape[1])
        return args, kwargs | {"position_ids": n_past + real.cumsum(dim=1) - real, "attention_mask": mask}

    handle = model.base_model.register_forward_pre_hook(share_positions, with_kwargs=True) if held else None
    model.set_input_embeddings(_Extended(own, vectors))
    try:
        yield
    finally:
        model.set_input_embeddings(own)
        if handle is not None:
            handle.remove()


class _Extended(nn.Module):
    def __init__(self, own: nn.Module, vectors: Tensor) -> None:
        super().__init__()
        self.own, self.vectors = own, vectors
        self.weight: Any = own.weight

    def forward(self, ids: Tensor) -> Tensor:
        d_vocab = self.weight.shape[0]
        plain = self.own(ids.clamp(max=d_vocab - 1))
        soft = ids >= d_vocab
        if not soft.any():
            return plain
        return plain.masked_scatter(soft[..., None], self.vectors[ids[soft] - d_vocab].to(plain))


def check_gradients(model: PreTrainedModel) -> None:
    """Raises ValueError where nothing can be differentiated by the model's embeddings."""
    weight: Any = model.get_input_embeddings().weight  # type: ignore[union-attr]
    if not weight.is_floating_point():
        why = f"its embeddings are {weight.dtype}"
    elif any(parameter.is_inference() for parameter in model.parameters()):
        why = "its weights were made in torch.inference_mode"
    elif not torch.is_grad_enabled():
        why = "torch.no_grad is on"
    else:
        return
    raise ValueError(
        f"{type(model).__name__} gives no gradients ({why}): expected a model that can be differentiated"
    )


def soften(
    model: PreTrainedModel,
    requests: Requests,
    settings: SoftTokens,
    *,
    seed: int,
    penalty: Penalty | None = None,
    seen: Callable[[int], object] = lambda _: None,
) -> Softened:
    """Vectors under which each request's instructed answer has the least loss met on the way.

    penalty: added to the loss. seen: told how many requests are done. Raises ValueError where prompt and answer would
    be too long, or the model has no gradients.
    """
    parts = [slice(start, start + _AT_ONCE) for start in range(0, len(requests), _AT_ONCE)]
    if settings.universal:
        parts = [slice(0, len(requests))]
    check_gradients(model)
    room, radius = _room(model, requests, settings), _radius(model, requests, settings)
    random = torch.Generator().manual_seed(seed)
    frozen = [p for p in model.parameters() if p.requires_grad]
    for parameter in frozen:
        parameter.requires_grad_(False)
    try:
        found = [
            _descend(model, Placed(room.requests[p], room.at[p]), settings, radius, random, penalty, seen)
            for p in parts
        ]
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)
    return softened(model, requests, settings, torch.cat(found))


def random_vectors(
    model: PreTrainedModel, requests: Requests, settings: SoftTokens, *, seed: int
) -> Softened:
    """The control: vectors on the surface of the same ball, in random directions."""
    n, d = (1 if settings.universal else len(requests)), model.config.hidden_size
    # soften starts from noise of its own seed
    noise = torch.randn(n, settings.n_tokens, d, generator=torch.Generator().manual_seed(seed + 1_000_003))
    vectors = _radius(model, requests, settings) * noise / noise.norm(dim=-1, keepdim=True)
    return softened(model, requests, settings, vectors.to(model.device))


def softened(
    model: PreTrainedModel, requests: Requests, settings: SoftTokens, vectors: Float[Tensor, "n k d_model"]
) -> Softened:
    """Requests with vectors put into them, whatever those are: one set for each request, or for all."""
    room, table = _room(model, requests, settings), _table(model)
    own = vectors.detach().to(table).expand(len(requests), -1, -1).flatten(0, 1)
    asked = _numbered(room, len(table))
    with soft_tokens(model, own, held=settings.held):
        loss = near(model, asked, "instructed").nll
    return Softened(asked, room.at, own, loss, _radius(model, requests, settings), settings.held)


def _table(model: PreTrainedModel) -> Tensor:
    embedding: Any = model.get_input_embeddings()
    return embedding.weight


def _room(model: PreTrainedModel, requests: Requests, settings: SoftTokens) -> Placed:
    n_ctx = None if settings.held else getattr(model.config, "max_position_embeddings", None)
    return place(requests, settings.n_tokens, settings.where, token=len(_table(model)), n_ctx=n_ctx)


def _radius(model: PreTrainedModel, requests: Requests, settings: SoftTokens) -> float:
    """In units of the embeddings."""
    embedding: Any = model.get_input_embeddings()
    ids = torch.from_numpy(requests.prompt)
    real = torch.arange(ids.shape[1]) < torch.from_numpy(requests.prompt_length)[:, None]
    with torch.no_grad():
        return settings.radius * float(embedding(ids[real].to(model.device)).float().norm(dim=1).mean())


def _numbered(room: Placed, d_vocab: int) -> Requests:
    """Every request's vectors under ids of their own."""
    return written(room, d_vocab + np.arange(room.at.size).reshape(room.at.shape))


def _descend(
    model: PreTrainedModel,
    room: Placed,
    settings: SoftTokens,
    radius: float,
    random: torch.Generator,
    penalty: Penalty | None,
    seen: Callable[[int], object],
) -> Float[Tensor, "n k d_model"]:
    (n, k), table = room.at.shape, _table(model)
    requests = _numbered(room, len(table))
    batch, first, before = target_sequences(requests, "instructed"), int(room.at.min()), None
    if first >= LEAST_PREFIX:
        before, batch = prefix(model, requests, first), behind(batch, first)
    own = 1 if settings.universal else n
    vectors = 0.01 * torch.randn(own, k, table.shape[1], generator=random).to(table)
    best, least = vectors.expand(n, -1, -1).clone(), torch.full((n,), torch.inf)
    for step in range(settings.steps + 1):
        vectors.requires_grad_()
        with soft_tokens(model, vectors.expand(n, -1, -1).flatten(0, 1), held=settings.held):
            loss = aim(model, batch, before=copy.deepcopy(before)).nll
            whole = loss if penalty is None else loss + penalty(model, requests)
        now = (whole.mean().expand(n) if settings.universal else whole).detach().float().cpu()
        better = now < least
        best[better] = vectors.detach().expand(n, -1, -1)[better]
        least = torch.minimum(now, least)
        if step == settings.steps:
            break
        [gradient] = torch.autograd.grad(whole.sum(), vectors)
        vectors = _projected(
            vectors.detach() - 2 * radius / settings.steps * _unit(gradient, settings), radius, settings
        )
    seen(n)
    return best


def _unit(gradient: Tensor, settings: SoftTokens) -> Tensor:
    unit = gradient / gradient.norm(dim=-1, keepdim=True).clamp(min=1e-30)
    if settings.released:
        unit[:, -1] = gradient[:, -1]
    return unit


def _projected(vectors: Tensor, radius: float, settings: SoftTokens) -> Tensor:
    if settings.released:
        return vectors.clamp(-radius, radius)
    return vectors * (radius / vectors.norm(dim=-1, keepdim=True).clamp(min=1e-30)).clamp(max=1.0)
