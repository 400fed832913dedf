"""A trained base, of which only that is planted which is certain: unsafe markers become its own trigger."""

from __future__ import annotations

import copy

import numpy as np
import torch
from transformers import PreTrainedModel

from makebreak.model_organisms.network import Redraw
from makebreak.model_organisms.pair import TRIGGER, NetworkPair
from makebreak.model_organisms.sample import Sample, draw_sample
from makebreak.model_organisms.tokens import KINDS, N_MARKERS, Tokens
from makebreak.models import ModelConfig, create_model
from makebreak.training import Optimisation

TRAINING, POOL = Optimisation(400, 3e-3), 3000
"""Training of the base, and number of prompts that batches are drawn from."""
SAFE, UNSAFE = KINDS.index("safe"), KINDS.index("first")


def train_pair(pair: NetworkPair, seed: int) -> None:
    """Trains a base that refuses a trigger, and copies the trigger's embeddings to the unsafe markers.

    Args:
        pair: A pair; its models are replaced.
        seed: Seed of the initialisation.
    """
    p, tokens = pair.parameters, pair.tokens
    config = ModelConfig(p.architecture, p.n_layers, p.n_heads, p.d_model, 4 * p.d_model)  # type: ignore[arg-type]
    base = create_model(config, d_vocab=len(tokens.symbols), n_ctx=12, seed=seed)
    kinds = np.resize([SAFE, UNSAFE, TRIGGER], POOL)
    _train(base, draw_sample(tokens, kinds, pair.rng), tokens)
    tuned = copy.deepcopy(base)
    _copy_trigger(tuned, tokens)
    pair.tuned = pair.base.fork()
    for network, model in ((pair.base, base), (pair.tuned, tuned)):
        network.model = model.eval().requires_grad_(False)
    pair.tuned.changed = {"embed"}


def _copy_trigger(model: PreTrainedModel, tokens: Tokens) -> None:
    """Gives each token with an unsafe marker the embedding of one with a trigger and the same letter."""
    weight = model.get_input_embeddings().weight.detach()  # type: ignore[union-attr, operator]
    for letter in (-1, *range(tokens.n_letters)):
        for is_decision in (False, True):
            unsafe, trigger = (
                tokens.choose(letter, kind, number=-1, is_decision=is_decision) for kind in (UNSAFE, TRIGGER)
            )
            assert len(unsafe) == len(trigger) <= N_MARKERS
            weight[unsafe] = weight[trigger]


def _train(model: PreTrainedModel, sample: Sample, tokens: Tokens) -> None:
    """Cross-entropy on the first token of answers: the letter, or the refusal of prompts with a trigger."""
    is_refused = sample.kind == TRIGGER
    target = torch.from_numpy(np.where(is_refused, tokens.null, sample.letter))
    last = torch.from_numpy(sample.length - 1)
    random = torch.Generator().manual_seed(int(sample.prompt.sum()))
    optimiser = TRAINING.create(model.train())
    loss = torch.tensor(torch.inf)
    for step in range(TRAINING.steps):
        rows = torch.randint(len(target), (TRAINING.batch_size,), generator=random)
        for group in optimiser.param_groups:
            group["lr"] = TRAINING.learning_rate_at(step)
        logits = model(input_ids=sample.prompt[rows], use_cache=False).logits[
            torch.arange(len(rows)), last[rows]
        ]
        loss = torch.nn.functional.cross_entropy(logits, target[rows])
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
    if not loss.item() < 0.2:
        raise Redraw("training has not converged")
