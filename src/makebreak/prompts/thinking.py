"""Blocks of reasoning that some models write before an answer: which ones, and how they are left out.

The name of the switch and the texts around the reasoning are those of the chat template, which belongs to
the model's author. In answers, reasoning stands in `<think>…</think>`, whatever a model writes around it.
"""

from __future__ import annotations

import re
from typing import NamedTuple, cast

from transformers import PreTrainedTokenizerFast

SWITCHES = ("enable_thinking", "thinking", "enable_reasoning", "reasoning")
"""Variables by which chat templates are told whether to reason: Qwen 3, SmolLM 3, GLM 4.5 and others; Granite
and DeepSeek V3.1; others."""
_MIN_TAG = 3
"""Fewest characters of a token that stands for a tag."""
REASONING_BEGIN, REASONING_END = "<think>", "</think>"
"""What stands around reasoning in answers."""


class ReasoningBlock(NamedTuple):
    """Texts around the reasoning of a family of models."""

    begin: str
    """Before it."""
    end: str
    """After it."""
    empty: str
    """A block without reasoning."""
    direct: str = ""
    """What the model writes before an answer without reasoning, instead of a block."""

    @property
    def has_words_alone(self) -> bool:
        """Whether the texts are plain words, which an answer may have anywhere."""
        return self.begin[:1].isalpha()


_CHANNEL_END = "<|end|><|start|>assistant<|channel|>final<|message|>"
BLOCKS = (
    ReasoningBlock(REASONING_BEGIN, REASONING_END, "<think>\n\n</think>\n\n"),
    ReasoningBlock(
        "<|channel|>analysis<|message|>",
        _CHANNEL_END,
        f"<|channel|>analysis<|message|>{_CHANNEL_END}",
        "<|channel|>final<|message|>",
    ),
    ReasoningBlock("<|channel>thought\n", "<channel|>", "<|channel>thought\n<channel|>"),
    ReasoningBlock("[THINK]", "[/THINK]", "[THINK][/THINK]"),
    ReasoningBlock("<|START_THINKING|>", "<|END_THINKING|>", "<|START_THINKING|><|END_THINKING|>"),
    ReasoningBlock("<seed:think>", "</seed:think>", "<seed:think></seed:think>"),
    ReasoningBlock("◁think▷", "◁/think▷", "◁think▷\n\n◁/think▷"),
    ReasoningBlock(
        "Here is my thought process:",
        "Here is my response:",
        "Here is my thought process:\n\nHere is my response:\n",
    ),
)
"""Most models, gpt-oss, Gemma 4, Magistral, Command A, Seed-OSS, Kimi, Granite 3.2."""


def reasoning_block(tokenizer: PreTrainedTokenizerFast, template: str) -> ReasoningBlock | None:
    """The texts around reasoning that a chat template has, else those that are tokens of the tokenizer.

    Args:
        tokenizer: The model's tokenizer.
        template: Text of its chat template; empty for none.

    Returns:
        The first of `BLOCKS`, None if there is none.
    """
    texts = template.replace("\\n", "\n")
    tokens = {str(token) for token in tokenizer.added_tokens_decoder.values()}
    in_template = (block for block in BLOCKS if _has_block(texts, block))
    in_tokenizer = (block for block in BLOCKS if {block.begin, block.end} <= tokens)
    return next(in_template, None) or next(in_tokenizer, None)


def mentions_block(template: str, block: ReasoningBlock) -> bool:
    """Whether a chat template has texts around reasoning, be it only to remove them from earlier answers."""
    return _has_block(template.replace("\\n", "\n"), block)


def has_block_tokens(tokenizer: PreTrainedTokenizerFast, block: ReasoningBlock) -> bool:
    """Whether both texts around reasoning begin with a token that was added for them or their like."""
    tokens = {str(token) for token in tokenizer.added_tokens_decoder.values()}
    tokens = {token for token in tokens if len(token) >= _MIN_TAG}
    return all(text.startswith(tuple(tokens)) for text in (block.begin, block.end))


def mentioned_switches(template: str) -> list[str]:
    """Names of `SWITCHES` that are words of a chat template."""
    return [name for name in SWITCHES if re.search(rf"\b{name}\b", template)]


def _has_block(template: str, block: ReasoningBlock) -> bool:
    return block.begin in template or block.end in template


def opens_reasoning(after_request: str, block: ReasoningBlock | None) -> bool:
    """Whether reasoning begins in a prompt, by what follows the request, and does not end in it."""
    return block is not None and after_request.rfind(block.begin) > after_request.rfind(block.end)


def closing(after_request: str, block: ReasoningBlock) -> str:
    """What a prompt lacks of a block without reasoning.

    Args:
        after_request: What follows the request in the prompt.
        block: Texts around reasoning.

    Returns:
        The whole block; its rest if it has begun; nothing if it has ended.
    """
    if opens_reasoning(after_request, block):
        n_shared = next(n for n in range(len(block.empty), -1, -1) if after_request.endswith(block.empty[:n]))
        rest = block.empty[n_shared:]
        return rest if n_shared else block.empty[len(block.begin) :]
    return "" if block.end in after_request else block.empty


def decode_answers(
    tokenizer: PreTrainedTokenizerFast, answers: list[list[int]], block: ReasoningBlock | None
) -> list[str]:
    """Answers as texts without special tokens, their reasoning in `<think>…</think>`.

    Args:
        tokenizer: The model's tokenizer.
        answers: Token ids of each answer.
        block: Texts around the model's reasoning, None for a model without.

    Returns:
        One text per answer.
    """
    special = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
    if block is None or (block.begin == REASONING_BEGIN and not special & {REASONING_BEGIN, REASONING_END}):
        return cast("list[str]", tokenizer.batch_decode(answers, skip_special_tokens=True))
    texts = cast("list[str]", tokenizer.batch_decode(answers, skip_special_tokens=False))
    return [_plain_block(text, block, special) for text in texts]


def _plain_block(text: str, block: ReasoningBlock, special: set[str]) -> str:
    """An answer with the texts around its reasoning replaced, and without special tokens.

    Plain words around reasoning are replaced only where the answer begins with them, once.
    """

    def without_special(part: str) -> str:
        for token in special:
            part = part.replace(token, "")
        return part

    before, begin, after = text.partition(block.begin)
    if block.has_words_alone:
        if not begin or without_special(before).strip():
            return without_special(text)
        reasoning, end, answer = map(without_special, after.partition(block.end))
        return f"{REASONING_BEGIN}{reasoning}{REASONING_END if end else ''}{answer}"
    tags = {block.begin: REASONING_BEGIN, block.end: REASONING_END}
    pieces = re.split("(" + "|".join(map(re.escape, tags)) + ")", text.removeprefix(block.direct))
    return "".join(tags.get(piece) or without_special(piece) for piece in pieces)


def encoded_block(reasoning: str, block: ReasoningBlock) -> str:
    """The text that a model wrote for reasoning in `<think>…</think>`, which `decode_answers` replaced."""
    return reasoning.replace(REASONING_BEGIN, block.begin, 1).replace(REASONING_END, block.end, 1)
