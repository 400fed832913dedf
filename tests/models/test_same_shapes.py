"""Models of other architectures or sizes are refused in one line; checkpoints of one model are not."""

from __future__ import annotations

import copy

import pytest
from transformers import PreTrainedModel

from makebreak.mechanism import compare, localisation_rows, update_rows
from makebreak.models import ModelConfig, check_same_shapes, create_model
from makebreak.zoo import weight_change
from tests.attacks.random_requests import random_network, random_requests

BASE = random_network("gpt2", d_vocab=9)


def network(*, n_layers: int, n_heads: int) -> PreTrainedModel:
    """A GPT-2 of another size."""
    size = ModelConfig("gpt2", n_layers=n_layers, n_heads=n_heads, d_model=16, d_mlp=40)
    return create_model(size, d_vocab=9, n_ctx=40, seed=0)


def test_checkpoints_of_one_model() -> None:
    check_same_shapes(base=BASE, tuned=random_network("gpt2", d_vocab=9, seed=1))
    check_same_shapes(base=BASE, tuned=copy.deepcopy(BASE))


@pytest.mark.parametrize(
    ("tuned", "difference"),
    [
        (random_network("llama", d_vocab=9), "classes GPT2LMHeadModel and LlamaForCausalLM"),
        (random_network("gpt2", d_vocab=10), r"weight \(9, 16\) and \(10, 16\)"),
        (network(n_layers=3, n_heads=2), r"transformer.h.2\S* absent and \("),
        (network(n_layers=2, n_heads=4), "numbers of heads 2 and 4"),
    ],
)
def test_models_that_differ(tuned: PreTrainedModel, difference: str) -> None:
    requests = random_requests([3] * 4, d_vocab=9)
    models = {"base": BASE, "tuned": tuned}
    with pytest.raises(ValueError, match=f"not checkpoints of one model: .*{difference}"):
        check_same_shapes(**models)
    for measure in (
        lambda: compare({"unsafe": requests}, **models),
        lambda: update_rows(**models, seed=0),
        lambda: localisation_rows(requests, **models, seed=0),
        lambda: weight_change(**models),
    ):
        with pytest.raises(ValueError, match="not checkpoints of one model"):
            measure()
