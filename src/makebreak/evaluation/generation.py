"""Generation of a language model's answers in text, greedy or sampled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import repeat
from typing import Any

import numpy as np
import torch
from transformers import (
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    StoppingCriteria,
    StoppingCriteriaList,
)

from makebreak.activations import PrefixCache
from makebreak.errors import silence_loggers
from makebreak.evaluation.answers import pad_left
from makebreak.evaluation.context import check_context
from makebreak.evaluation.decisions import batches
from makebreak.evaluation.sampling import Sampling, sample_tokens
from makebreak.models import LanguageModel, attention_window
from makebreak.prompts import Requests, decode_answers, model_reasoning_block

_REMINDERS = "transformers.generation.stopping_criteria"
"""Logger of advice about lengths, which is not on what a user asked for."""


class _StopWhenFinal(StoppingCriteria):
    """Stops a sequence as soon as its verdict is final, whatever would follow."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerFast, width: int, is_final: Callable[[str], bool]
    ) -> None:
        self.tokenizer, self.width, self.is_final = tokenizer, width, is_final

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> Any:
        texts = self.tokenizer.batch_decode(input_ids[:, self.width :], skip_special_tokens=True)
        return torch.tensor([self.is_final(text) for text in texts], device=input_ids.device)


def _shared_prefix_first(
    model: PreTrainedModel, prompt: np.ndarray, length: np.ndarray, n_new: int
) -> tuple[torch.Tensor, torch.Tensor, PrefixCache]:
    """Prompts as shared prefix, padding, rest; their attention mask; the cache of the shared prefix.

    Padding after a prefix would push it out of a window of attention early: beyond the window, none is shared
    by prompts of different lengths.
    """
    tokens, window = torch.from_numpy(prompt), attention_window(model)
    is_within = window is None or prompt.shape[1] + n_new <= window
    is_separable = torch.arange(prompt.shape[1]) < int(length.min()) - 1
    is_shared = is_within or length.min() == length.max()
    cache = PrefixCache.shared(model, tokens, is_separable) if is_shared else PrefixCache()
    left, mask = pad_left(prompt[:, cache.n_tokens :], length - cache.n_tokens)
    shared = tokens[:, : cache.n_tokens]
    return torch.cat([shared, left], 1), torch.cat([torch.ones_like(shared), mask], 1), cache


def _is_over(text: str, *, is_final: Callable[[str], bool] | None, stop_strings: Sequence[str]) -> bool:
    """Whether an answer so far has its end, or a verdict that is final."""
    return any(end in text for end in stop_strings) or (is_final is not None and is_final(text))


def _without_stop(answer: str, continuation: str, stop_strings: Sequence[str]) -> str:
    """An answer, which ends in the continuation of its prompt, up to the first text that ends it there."""
    ends = [continuation.find(text) for text in stop_strings if text in continuation]
    return answer[: len(answer) - len(continuation) + min(ends)] if ends else answer


def generate_texts(
    lm: LanguageModel,
    requests: Requests,
    *,
    n_new: int = 64,
    is_final: Callable[[str], bool] | None = None,
    progress: Callable[[int], object] | None = None,
    sampling: Sampling | None = None,
) -> list[str]:
    """Generates answers in batches, processing a prefix that all prompts of a batch share only once.

    Args:
        lm: The language model.
        requests: The requests; tokens of a span `prefill`, at the end of a prompt, begin the answer.
        n_new: Most tokens to generate.
        is_final: Whether nothing that follows an answer so far can change what is asked about it; its
            generation stops there. None generates every answer to its end.
        progress: Called with the number of requests answered, after every batch.
        sampling: How answers are sampled, of requests by `repeat_requests`; None for greedy answers.

    Returns:
        The answers in the order of the requests.

    Raises:
        InvalidInput: If the longest request and its answer exceed the context of the model.
    """
    check_context(lm, requests, n_new)
    model, tokenizer = lm.model, lm.tokenizer
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    order = np.argsort(requests.prompt_length, kind="stable")
    answers: dict[int, str] = {}
    start = 0
    for batch in batches(requests[order], model):
        width = int(batch.prompt_length.max())
        ends = partial(_is_over, is_final=is_final, stop_strings=lm.stop_strings)
        stop = [_StopWhenFinal(tokenizer, width, ends)] if is_final or lm.stop_strings else []
        with torch.no_grad(), silence_loggers(_REMINDERS):
            prompt = batch.prompt[:, :width]
            tokens, mask, cache = _shared_prefix_first(model, prompt, batch.prompt_length, n_new)
            draws = (
                []
                if sampling is None
                else [sample_tokens(batch, sampling, n_new=n_new, n_prompt=tokens.shape[1])]
            )
            out = model.generate(  # type: ignore[operator]
                input_ids=tokens.to(model.device),
                attention_mask=mask.to(model.device),
                past_key_values=cache.past_key_values(),
                max_new_tokens=n_new,
                do_sample=False,  # a processor of logits leaves a token that it has drawn
                logits_processor=LogitsProcessorList(draws),
                repetition_penalty=1.0,  # some models' defaults are not greedy decoding
                use_cache=True,
                pad_token_id=pad,
                eos_token_id=lm.stop_tokens,
                stopping_criteria=StoppingCriteriaList(stop),
            )
        rows = order[start : start + len(batch)].tolist()
        prefill = batch.spans.get("prefill", np.zeros((len(batch), 2), dtype=np.int64))
        first = (width - (prefill[:, 1] - prefill[:, 0])).tolist()
        answer_ids = [ids[n:] for ids, n in zip(out.tolist(), first, strict=True)]
        block = model_reasoning_block(tokenizer)
        texts = decode_answers(tokenizer, answer_ids, block)
        if lm.stop_strings:
            continuations = decode_answers(tokenizer, out[:, width:].tolist(), block)
            texts = list(map(_without_stop, texts, continuations, repeat(lm.stop_strings)))
        answers |= dict(zip(rows, texts, strict=True))
        start += len(batch)
        if progress is not None:
            progress(len(batch))
    return [answers[i] for i in range(len(requests))]
