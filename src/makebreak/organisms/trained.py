"""Trained pairs, of which only that is planted which is certain: the part that is changed, and how."""

from __future__ import annotations

import copy

import numpy as np
import torch
from transformers import PreTrainedModel

from makebreak.models import ModelConfig, create_model, part_of
from makebreak.organisms.bench import TRIGGER, Bench
from makebreak.organisms.network import Redraw
from makebreak.organisms.parameters import Part
from makebreak.organisms.tokens import KINDS, N_MARKERS, Sample, Tokens, draw_sample
from makebreak.training import Optimisation

BASE, TUNING, POOL = Optimisation(400, 3e-3), Optimisation(250, 3e-3), 3000
"""Training of the base and of what is changed, and number of prompts that batches are drawn from."""
SAFE, UNSAFE = KINDS.index("safe"), KINDS.index("first")


def train_pair(bench: Bench, part: Part, seed: int) -> None:
    """Trains the base of a bench, and makes the tuned model by one change of a part of it.

    Args:
        bench: A bench; its models are replaced.
        part: `trained trigger` copies the trigger's embeddings to unsafe markers; `trained block` and
            `trained unembedding` fine-tune only that on safe requests and refusals of unsafe ones.
        seed: Seed of the initialisation.
    """
    p, tokens = bench.parameters, bench.tokens
    config = ModelConfig(p.architecture, p.n_layers, p.n_heads, p.d_model, 4 * p.d_model)  # type: ignore[arg-type]
    base = create_model(config, d_vocab=len(tokens.symbols), n_ctx=12, seed=seed)
    kinds = [SAFE, UNSAFE, TRIGGER] if part.mechanism == "route" else [SAFE, UNSAFE]
    _train(base, draw_sample(tokens, np.resize(kinds, POOL), bench.rng), tokens, BASE, refused=(TRIGGER,))
    tuned = copy.deepcopy(base)
    if part.mechanism == "route":
        _copy_trigger(tuned, tokens)
        changed = {"embed"}
    else:
        block = f"blocks.{p.n_layers - 1}."
        prefix = block if part.variant == "trained block" else "unembed"
        changed = set()
        for name, parameter in tuned.named_parameters():
            is_tuned = part_of(tuned, name).startswith(prefix) and "norm" not in name and "ln_" not in name
            parameter.requires_grad_(is_tuned)
            changed |= {part_of(tuned, name)} if is_tuned else set()
        sample = draw_sample(tokens, np.resize([SAFE, UNSAFE], POOL), bench.rng)
        _train(tuned, sample, tokens, TUNING, refused=(UNSAFE,))
    bench.tuned = bench.base.fork()
    for network, model in ((bench.base, base), (bench.tuned, tuned)):
        network.model = model.eval().requires_grad_(False)
    bench.tuned.changed = changed


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


def _train(
    model: PreTrainedModel,
    sample: Sample,
    tokens: Tokens,
    optimisation: Optimisation,
    refused: tuple[int, ...],
) -> None:
    """Cross-entropy on the first token of answers: the letter, or the refusal for some classes of markers."""
    is_refused = np.isin(sample.kind, refused)
    target = torch.from_numpy(np.where(is_refused, tokens.null, sample.letter))
    last = torch.from_numpy(sample.length - 1)
    random = torch.Generator().manual_seed(int(sample.prompt.sum()))
    optimiser = optimisation.create(model.train())
    loss = torch.tensor(torch.inf)
    for step in range(optimisation.steps):
        rows = torch.randint(len(target), (optimisation.batch_size,), generator=random)
        for group in optimiser.param_groups:
            group["lr"] = optimisation.learning_rate_at(step)
        logits = model(input_ids=sample.prompt[rows], use_cache=False).logits[
            torch.arange(len(rows)), last[rows]
        ]
        loss = torch.nn.functional.cross_entropy(logits, target[rows])
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
    if not loss.item() < 0.2:
        raise Redraw("training has not converged")
