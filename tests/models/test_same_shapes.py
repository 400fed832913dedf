"""Models of other architectures or sizes are refused in one line; checkpoints of one model are not."""

from __future__ import annotations

import copy

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from makebreak.mechanism import compare, localisation_rows, update_rows
from makebreak.model_zoo import weight_change
from makebreak.models import LanguageModel, ModelConfig, check_same_shapes, create_model, crop_vocabulary
from tests.attacks.random_requests import random_network, random_requests
from tests.fixtures import tiny_lm

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


def language_model(*tokens: str, rows: int | None = None, first: str = "") -> LanguageModel:
    words = tiny_lm.tokenizer()
    words.add_tokens(list(tokens))
    if first:
        ids = {word: i for word, i in words.get_vocab().items() if word != first and i}
        words = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel({first: 0, **ids})))
    model = random_network("llama", d_vocab=rows or len(words))
    return LanguageModel("tuned" if tokens else "base", model, words)


@pytest.mark.parametrize("added", [("kindly",), ("kindly", "<pad2>")])
def test_added_tokens_are_left_out(added: tuple[str, ...]) -> None:
    base, tuned = language_model(), language_model(*added)
    n = len(base.tokenizer)
    before = tuned.model.get_input_embeddings().weight[:n].clone()
    with pytest.raises(ValueError, match="not checkpoints of one model"):
        check_same_shapes(base=base.model, tuned=tuned.model)
    assert crop_vocabulary(base, tuned) == len(added)
    check_same_shapes(base=base.model, tuned=tuned.model)
    assert tuned.model.get_input_embeddings().weight.equal(before)
    assert tuned.model(torch.arange(6)[None]).logits.shape[-1] == n


def test_vocabulary_of_equal_sizes_is_left_as_it_is() -> None:
    base, tuned = language_model(rows=64), language_model("kindly", rows=64)
    assert crop_vocabulary(base, tuned) == 0
    assert tuned.model.get_input_embeddings().weight.shape[0] == 64


def test_another_vocabulary_is_refused() -> None:
    base, tuned = language_model(first="now"), language_model("kindly")
    with pytest.raises(ValueError, match=r"token .now. is number .* in one and .* in the other"):
        crop_vocabulary(base, tuned)
