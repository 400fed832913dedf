"""Loss of a language model on plain text, a measure of its abilities apart from refusals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from makebreak.errors import InvalidInput
from makebreak.evaluation.teacher_forcing import score_targets, sequences_per_pass
from makebreak.models import LanguageModel, context_length
from makebreak.prompts import Sequences, encode_prompts


class TextLossRow(NamedTuple):
    """Loss of a model on one text."""

    text: int
    """Number of the text, from 0."""
    tokens: int
    """Number of tokens that are predicted: all but the first one, which may be the beginning of a text."""
    nll: float
    """Mean negative log-likelihood per token, in nats."""


def text_losses(lm: LanguageModel, texts: Sequence[str]) -> list[TextLossRow]:
    """Scores every token of texts after those before it, without a prompt template.

    Args:
        lm: The language model.
        texts: The texts, each of at least two tokens; what exceeds the context of the model is cut off.

    Returns:
        One row per text.

    Raises:
        InvalidInput: If a text has fewer than two tokens.
    """
    prompts = encode_prompts(lm.tokenizer, texts, add_special_tokens=True)
    encoded = [prompt.ids[: context_length(lm.model.config)] for prompt in prompts]
    if min(map(len, encoded)) < 2:
        raise InvalidInput(f"{lm.name}: its tokenizer or context leaves a text fewer than 2 tokens")
    order = sorted(range(len(encoded)), key=lambda i: len(encoded[i]))
    width = len(encoded[order[-1]])
    size = sequences_per_pass(lm.model, width, width - 1)
    rows: dict[int, TextLossRow] = {}
    for start in range(0, len(order), size):
        part = order[start : start + size]
        with torch.no_grad():
            nll = score_targets(lm.model, _sequences([encoded[i] for i in part])).nll.tolist()
        rows |= {i: TextLossRow(i, len(encoded[i]) - 1, loss) for i, loss in zip(part, nll, strict=True)}
    return [rows[i] for i in range(len(texts))]


def _sequences(token_ids: Sequence[list[int]]) -> Sequences:
    """Texts padded on the right, of which all tokens but the first are targets."""
    lengths = torch.tensor([len(ids) for ids in token_ids])
    position = torch.arange(int(lengths.max()))
    tokens = torch.nn.utils.rnn.pad_sequence([torch.tensor(ids) for ids in token_ids], batch_first=True)
    supervised = (position > 0) & (position < lengths[:, None])
    return Sequences(tokens, supervised, torch.zeros_like(lengths))
