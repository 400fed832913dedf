"""Requests of synthetic worlds and of language models, and the token sequences that are made of them."""

from makebreak.prompts.detectability import DetectabilityRow, detectability_rows
from makebreak.prompts.examples import (
    FORMATS,
    TEMPLATES,
    Example,
    format_families,
    format_prompt,
    plain_texts,
    refusal_text,
    task_items,
    training_prompts,
)
from makebreak.prompts.files import (
    PromptFamilies,
    read_examples,
    read_families,
    read_prompts,
    read_prompts_with_targets,
)
from makebreak.prompts.prompt_rows import ReadOptions
from makebreak.prompts.reasoning_switch import (
    choose_thinking,
    missing_block,
    model_reasoning_block,
    open_block,
    template_thinking,
)
from makebreak.prompts.rendering import REFUSAL_OPENERS, PromptFormat, stop_tokens
from makebreak.prompts.retokenization import printable_tokens, retokenizes_identically
from makebreak.prompts.sequences import (
    Sequences,
    interval_mask,
    sample_batch,
    sequences,
    span_mask,
    target_sequences,
    with_prefill,
)
from makebreak.prompts.tables import canonical_text
from makebreak.prompts.text import (
    TextRequests,
    check_known,
    evaluation_prompts,
    text_requests,
    with_targets,
)
from makebreak.prompts.text_world import TextWorld
from makebreak.prompts.thinking import (
    REASONING_BEGIN,
    REASONING_END,
    ReasoningBlock,
    decode_answers,
    encoded_block,
)
from makebreak.prompts.token_requests import request_span, request_truth, token_requests
from makebreak.prompts.tokenization import encode_prompts, encode_texts, tokens_after_texts
from makebreak.prompts.worlds import load_world
from synthetic import OUTCOMES, Family, Outcome, Requests, World

__all__ = [
    "FORMATS",
    "OUTCOMES",
    "REASONING_BEGIN",
    "REASONING_END",
    "REFUSAL_OPENERS",
    "TEMPLATES",
    "DetectabilityRow",
    "Example",
    "Family",
    "Outcome",
    "PromptFamilies",
    "PromptFormat",
    "ReadOptions",
    "ReasoningBlock",
    "Requests",
    "Sequences",
    "TextRequests",
    "TextWorld",
    "World",
    "canonical_text",
    "check_known",
    "choose_thinking",
    "decode_answers",
    "detectability_rows",
    "encode_prompts",
    "encode_texts",
    "encoded_block",
    "evaluation_prompts",
    "format_families",
    "format_prompt",
    "interval_mask",
    "load_world",
    "missing_block",
    "model_reasoning_block",
    "open_block",
    "plain_texts",
    "printable_tokens",
    "read_examples",
    "read_families",
    "read_prompts",
    "read_prompts_with_targets",
    "refusal_text",
    "request_span",
    "request_truth",
    "retokenizes_identically",
    "sample_batch",
    "sequences",
    "span_mask",
    "stop_tokens",
    "target_sequences",
    "task_items",
    "template_thinking",
    "text_requests",
    "token_requests",
    "tokens_after_texts",
    "training_prompts",
    "with_prefill",
    "with_targets",
]
