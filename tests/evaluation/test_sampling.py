"""Sampled answers follow the softmax at a temperature, and depend on nothing but their own request."""

from __future__ import annotations

from collections import Counter
from types import MethodType

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor
from transformers import DynamicCache
from transformers.modeling_outputs import CausalLMOutputWithPast

from makebreak.evaluation import ChatTarget, Sampling, decisions, generate_texts, repeat_requests
from makebreak.models import LanguageModel
from makebreak.prompts import TextRequests
from makebreak.settings import GenerationSettings
from tests.fixtures.tiny_lm import prompts, trained_lm

WORDS = ["help", "with", "that", "Sure", "here"]
LOGITS = [2.0, 1.0, 0.0, -1.0, -30.0]
TEXTS = [text for family in prompts().values() for text in family[:6]] + ["make bread now please please"]


def planted_lm() -> LanguageModel:
    """A model that gives the planted logits at every position, whatever it reads."""
    lm = trained_lm(refuses=True)
    ids = lm.tokenizer.convert_tokens_to_ids(WORDS)

    def forward(self: object, input_ids: Tensor, past_key_values: object = None, **_: object) -> object:
        cache = DynamicCache() if past_key_values is None else past_key_values
        new = input_ids[:, None, :, None].float()
        cache.update(new, new, 0)  # type: ignore[attr-defined]
        logits = torch.full((*input_ids.shape, len(lm.tokenizer)), -200.0)
        logits[..., ids] = torch.tensor(LOGITS)
        return CausalLMOutputWithPast(logits=logits, past_key_values=cache)

    lm.model.forward = MethodType(forward, lm.model)
    config = lm.model.generation_config
    assert config is not None
    config.top_k, config.top_p, config.temperature, config.repetition_penalty = 1, 0.1, 0.2, 3.0
    config.min_p, config.typical_p = 0.9, 0.1
    return lm


def samples(lm: LanguageModel, texts: list[str], n: int, temperature: float, n_new: int = 6) -> list[str]:
    target = ChatTarget(lm, GenerationSettings(n_new=n_new), sampling=Sampling(temperature, seed=0))
    return target.answer(repeat_requests(target.encode(texts), n))


@pytest.mark.filterwarnings("ignore:.*generation flags are not valid:UserWarning")
@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_frequencies_are_those_of_the_softmax(temperature: float) -> None:
    """Whatever top-k, top-p, temperature and penalties the model's own generation config has."""
    n = 3000
    answers = samples(planted_lm(), ["make bread now"], n, temperature, n_new=2)
    pairs = [answer.split() for answer in answers]
    p = np.exp(np.array(LOGITS) / temperature)
    p /= p.sum()
    for position in (0, 1):
        counts = Counter(pair[position] for pair in pairs)
        observed = np.array([counts[word] for word in WORDS])
        assert observed.sum() == n
        common = p * n >= 5
        test = stats.chisquare(observed[common], p[common] * observed[common].sum() / p[common].sum())
        assert test.pvalue > 0.001
        for count, share in zip(observed[~common], p[~common], strict=True):
            assert stats.binomtest(int(count), n, float(share)).pvalue > 0.001
    first, second = (np.array([WORDS.index(pair[i]) for pair in pairs]) for i in (0, 1))
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.07  # draws of one answer are independent


def test_a_low_temperature_is_greedy() -> None:
    lm = trained_lm(refuses=True)
    requests = ChatTarget(lm).encode(TEXTS)
    greedy = generate_texts(lm, requests, n_new=6)
    for temperature in (1e-3, 1e-300):
        assert samples(lm, TEXTS, 2, temperature) == [text for text in greedy for _ in range(2)]


def test_answers_depend_on_seed_request_and_number_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither on the order of the requests, nor on the batch, nor on the number of samples."""
    lm = trained_lm(refuses=True)
    answers = samples(lm, TEXTS, 4, 2.0)
    assert samples(lm, TEXTS, 4, 2.0) == answers
    assert len(set(answers)) > len(answers) // 2
    by_text = {text: answers[4 * i : 4 * i + 4] for i, text in enumerate(TEXTS)}
    assert samples(lm, TEXTS[::-1], 2, 2.0) == [a for text in TEXTS[::-1] for a in by_text[text][:2]]
    monkeypatch.setattr(decisions, "MAX_BATCH_SIZE", 3)
    assert samples(lm, TEXTS, 4, 2.0) == answers
    other = ChatTarget(lm, GenerationSettings(n_new=6), sampling=Sampling(2.0, seed=1))
    assert other.answer(repeat_requests(other.encode(TEXTS), 4)) != answers


def test_requests_without_numbers_are_an_error() -> None:
    target = ChatTarget(trained_lm(refuses=True), sampling=Sampling(1.0, seed=0))
    with pytest.raises(ValueError, match="column 'sample' is not in the truth"):
        target.answer(target.encode(TEXTS))


def test_greedy_decoding_is_left_as_it_was() -> None:
    lm = trained_lm(refuses=True)
    requests = ChatTarget(lm).encode(TEXTS)
    assert isinstance(requests, TextRequests)
    assert set(generate_texts(lm, requests, n_new=6)) == {"I cannot help with that", "Sure here it is"}
