"""Reasoning in prompts: the switch of the chat template, the block without reasoning, and what is chosen."""

from __future__ import annotations

import pytest
from transformers import AddedToken, PreTrainedTokenizerFast

from makebreak.prompts import PromptFormat, choose_thinking, decode_answers, open_block, template_thinking
from makebreak.prompts.rendering import render_prompts
from makebreak.prompts.thinking import BLOCKS, ReasoningBlock
from makebreak.settings import GenerationSettings
from tests.fixtures.thinking_templates import (
    DEEPSEEK_V31,
    GPT_OSS,
    GRANITE,
    QWEN3,
    QWEN3_THINKING,
    QWEN_INSTRUCT,
    R1_DISTILL,
    R1_DISTILL_FIRST,
    SMOLLM3,
    thinking_tokenizer,
)
from tests.fixtures.tiny_lm import TEMPLATE, byte_level_tokenizer, tokenizer

REQUEST = "make tea"
BOTH_TAGS_REMOVED = R1_DISTILL_FIRST.replace("if '</think>' in", "if '<think>' in content and '</think>' in")
"""A template that knows both tags, but only removes what stands between them from earlier answers."""
EMPTY = "<think>\n\n</think>\n\n"


def chat(template: str) -> PreTrainedTokenizerFast:
    words = tokenizer()
    words.chat_template = template
    return words


def after_request(template: str, thinking: str | None, request: str = REQUEST) -> str:
    prompt_format = PromptFormat(thinking=thinking)  # type: ignore[arg-type]
    [prompt] = render_prompts(chat(template), [request], prompt_format)
    assert prompt.text[prompt.begin :].startswith(request)
    return prompt.text[prompt.begin + len(request) :]


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (QWEN3, "off"),
        (SMOLLM3, "off"),
        (GRANITE, None),
        (DEEPSEEK_V31, None),
        (QWEN3_THINKING, "skip"),
        (R1_DISTILL, "skip"),
        (R1_DISTILL_FIRST, None),
        (GPT_OSS, None),
        (BOTH_TAGS_REMOVED, None),
        (QWEN_INSTRUCT, None),
        (TEMPLATE, None),
    ],
)
def test_answers_follow_the_prompt_unless_reasoning_is_asked_for(template: str, expected: str | None) -> None:
    chosen = choose_thinking(chat(template), None, None)
    assert chosen == expected
    assert open_block(chat(template), chosen, None) is None


@pytest.mark.parametrize(
    ("template", "tokens"),
    [
        (R1_DISTILL_FIRST, ("<think>", "</think>")),
        (BOTH_TAGS_REMOVED, ("<think>", "</think>")),
        (GPT_OSS, ("<|channel|>", "<|message|>", "<|end|>", "<|start|>")),
    ],
)
def test_tokens_around_reasoning_tell_a_model_that_reasons(template: str, tokens: tuple[str, ...]) -> None:
    words = chat(template)
    words.add_tokens([*tokens[1:], "<"])
    assert choose_thinking(words, None, None) is None, "not the token before reasoning"
    words.add_tokens([tokens[0]])
    assert choose_thinking(words, None, None) == "skip"


@pytest.mark.parametrize("template", [GRANITE, DEEPSEEK_V31])
def test_prompts_without_reasoning_have_the_key_that_they_had(template: str) -> None:
    assert after_request(template, None) == after_request(template, "off")
    assert choose_thinking(chat(template), "off", None) == "off"
    assert choose_thinking(chat(template), "on", None) == "on"


OWN = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize(
    ("chat_template", "own", "expected"),
    [
        (QWEN3, OWN, "template"),
        (QWEN3, OWN + EMPTY, None),
        (QWEN3, OWN + "<think>\n", "template"),
        (QWEN3, EMPTY + OWN, "template"),
        (R1_DISTILL, OWN, "template"),
        (DEEPSEEK_V31, OWN, "template"),
        (DEEPSEEK_V31, OWN + "</think>", None),
        (GRANITE, OWN, None),
        (QWEN_INSTRUCT, OWN, None),
        (QWEN_INSTRUCT, OWN + "<think>", "template"),
        (None, OWN, None),
        (None, OWN + "[THINK]", "template"),
    ],
)
def test_own_template_of_a_user(chat_template: str | None, own: str, expected: str | None) -> None:
    words = chat(chat_template)  # type: ignore[arg-type]
    assert template_thinking(words, own) == expected
    is_begun = own.endswith(("<think>", "<think>\n", "[THINK]"))
    assert (open_block(words, expected, None, own) is not None) == is_begun  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("template", "thinking", "end"),
    [
        (QWEN3, "on", "<|im_start|>assistant\n"),
        (QWEN3, "template", "<|im_start|>assistant\n"),
        (QWEN3, "off", "<|im_start|>assistant\n" + EMPTY),
        (QWEN3, "skip", "<|im_start|>assistant\n" + EMPTY),
        (QWEN3_THINKING, "skip", "<|im_start|>assistant\n" + EMPTY),
        (QWEN3_THINKING, "template", "<|im_start|>assistant\n<think>\n"),
        (R1_DISTILL, "skip", "<｜Assistant｜>" + EMPTY),
        (R1_DISTILL_FIRST, "skip", "<｜Assistant｜>" + EMPTY),
        (R1_DISTILL.replace("<think>\\n'", "<think>'"), "skip", "<｜Assistant｜>" + EMPTY),
        (R1_DISTILL.replace("<think>\\n'", "<think>Well'"), "skip", "<think>Well\n\n</think>\n\n"),
        (SMOLLM3, "off", EMPTY),
        (SMOLLM3, "skip", "<|im_start|>assistant\n" + EMPTY),
        (GRANITE, "off", "<|start_of_role|>assistant<|end_of_role|>"),
        (GRANITE, "skip", "<|start_of_role|>assistant<|end_of_role|>" + EMPTY),
        (DEEPSEEK_V31, "on", "<｜Assistant｜><think>"),
        (DEEPSEEK_V31, "off", "<｜Assistant｜></think>"),
        (DEEPSEEK_V31, "skip", "<｜Assistant｜></think>"),
        (
            GPT_OSS,
            "skip",
            "<|start|>assistant<|channel|>analysis<|message|><|end|><|start|>assistant"
            "<|channel|>final<|message|>",
        ),
    ],
)
def test_end_of_the_prompt(template: str, thinking: str, end: str) -> None:
    assert after_request(template, thinking).endswith(end)
    assert after_request(template, thinking).count("</think>") <= 1


@pytest.mark.parametrize("template", [QWEN3, R1_DISTILL, SMOLLM3, GPT_OSS])
def test_a_request_with_a_block_is_no_block_of_the_prompt(template: str) -> None:
    request = "What does <think> </think> <|channel|>analysis<|message|> mean"
    assert after_request(template, "skip", request) == after_request(template, "skip")


@pytest.mark.parametrize(
    ("template", "begins"),
    [(R1_DISTILL, True), (QWEN3_THINKING, True), (QWEN3, False), (R1_DISTILL_FIRST, False)],
)
def test_prompts_that_begin_reasoning(template: str, begins: bool) -> None:
    assert (open_block(chat(template), "template", None) is not None) == begins
    assert open_block(chat(template), "skip", None) is None


def test_template_as_it_is_does_not_reason_where_the_switch_is_off_by_default() -> None:
    assert choose_thinking(chat(GRANITE), "template", None) is None
    assert choose_thinking(chat(QWEN3), "template", None) == "template"
    assert choose_thinking(chat(QWEN_INSTRUCT), "template", None) is None


@pytest.mark.parametrize("template", [R1_DISTILL, QWEN3_THINKING, GPT_OSS])
@pytest.mark.parametrize("thinking", ["on", "off"])
def test_switch_that_the_template_lacks(template: str, thinking: str) -> None:
    for function in (
        lambda: choose_thinking(chat(template), thinking, None),  # type: ignore[arg-type]
        lambda: after_request(template, thinking),
    ):
        with pytest.raises(ValueError, match=rf"--thinking {thinking}: .* no switch .* --thinking skip"):
            function()


@pytest.mark.parametrize("thinking", ["on", "off", "skip"])
def test_model_without_reasoning(thinking: str) -> None:
    with pytest.raises(ValueError, match=rf"--thinking {thinking}: .*leave the option out"):
        choose_thinking(chat(TEMPLATE), thinking, None)  # type: ignore[arg-type]


def test_block_of_the_tokenizer() -> None:
    """A template that does not mention the block of its tokenizer is used as it is, unless it is skipped."""
    words = thinking_tokenizer(TEMPLATE)
    assert choose_thinking(words, None, None) is None
    assert choose_thinking(words, "skip", None) == "skip"


def test_settings_of_reasoning() -> None:
    for template, thinking in (("none", "skip"), ("none", "template"), ("Q: {}", "off")):
        with pytest.raises(ValueError, match="only --template chat knows of reasoning"):
            GenerationSettings(template=template, thinking=thinking)  # type: ignore[arg-type]
    assert GenerationSettings(template="Q: {}", thinking="template").key["thinking"] == "template"
    assert "thinking" not in GenerationSettings().key
    assert GenerationSettings(thinking="skip").key["thinking"] == "skip"


HARMONY = ("<|channel|>", "<|message|>", "<|end|>", "<|start|>", "<|return|>")
THINK, CHANNEL, MAGISTRAL, WORDS = BLOCKS[0], BLOCKS[1], BLOCKS[3], BLOCKS[7]


@pytest.mark.parametrize(
    ("block", "special", "answer", "expected"),
    [
        (None, ("<end>",), "b <think> </think><end>", "b <think> </think>"),
        (THINK, ("<end>",), "<think> a </think> b<end>", "<think> a </think> b"),
        (THINK, ("<think>", "</think>"), "<think> a </think> b", "<think> a </think> b"),
        (THINK, ("<think>", "</think>"), "<think> a", "<think> a"),
        (THINK, ("<think>", "</think>"), "a </think> b", "a </think> b"),
        (MAGISTRAL, ("[THINK]", "[/THINK]"), "[THINK] a [/THINK] b", "<think> a </think> b"),
        (MAGISTRAL, ("[THINK]", "[/THINK]"), "b", "b"),
        (
            CHANNEL,
            HARMONY,
            "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>b<|return|>",
            "<think>a</think>b",
        ),
        (CHANNEL, HARMONY, "<|channel|>final<|message|>b<|return|>", "b"),
        (CHANNEL, HARMONY, "<|channel|>analysis<|message|>a", "<think>a"),
        (THINK, ("<think>", "</think>"), "b. Write <think>c</think>", "b. Write <think>c</think>"),
        (THINK, ("<think>", "</think>"), "<think>a</think>b</think>", "<think>a</think>b</think>"),
        (MAGISTRAL, ("[THINK]", "[/THINK]"), "[THINK]a[/THINK]b[/THINK]", "<think>a</think>b</think>"),
        (WORDS, ("<end>",), "b. Here is my response: x<end>", "b. Here is my response: x"),
        (
            WORDS,
            ("<end>",),
            "b. Here is my thought process: a Here is my response: x",
            "b. Here is my thought process: a Here is my response: x",
        ),
        (
            WORDS,
            ("<end>",),
            "Here is my thought process: a Here is my response: Here is my response: x<end>",
            "<think> a </think> Here is my response: x",
        ),
        (WORDS, ("<end>",), "<end>Here is my thought process: a", "<think> a"),
    ],
)
def test_reasoning_in_answers(
    block: ReasoningBlock | None, special: tuple[str, ...], answer: str, expected: str
) -> None:
    words = byte_level_tokenizer()
    words.add_tokens([AddedToken(token, special=True) for token in special])
    ids = words(answer, add_special_tokens=False)["input_ids"]
    assert decode_answers(words, [ids], block) == [expected]
