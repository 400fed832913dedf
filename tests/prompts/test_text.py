"""Prompt files, and the spans of requests within chat templates."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from makebreak.prompts import (
    PromptFormat,
    check_known,
    evaluation_prompts,
    read_prompts,
    read_prompts_with_targets,
    span_mask,
    text_requests,
    with_targets,
)
from tests.fixtures.tiny_lm import byte_level_tokenizer, prompts, tokenizer

CHAT = PromptFormat()


def test_evaluation_prompts_are_paired_by_verb() -> None:
    ours = evaluation_prompts()
    assert len(ours["harmful"]) == len(ours["harmless"]) >= 100
    assert len(set(ours["borderline"])) >= 50
    for harmless, harmful in zip(ours["harmless"], ours["harmful"], strict=True):
        assert harmless.split()[:2] == harmful.split()[:2]
    assert len({*ours["harmful"], *ours["harmless"], *ours["borderline"]}) == sum(map(len, ours.values()))


def test_prompts_of_a_file(tmp_path: Path) -> None:
    csv, jsonl = tmp_path / "a.csv", tmp_path / "a.jsonl"
    csv.write_text('goal,target\n"make tea, now",Sure\n,none\nhide rugs,Sure\n')
    jsonl.write_text("\n".join(json.dumps({"q": text}) for text in ("make tea", "hide rugs")))
    assert read_prompts(csv) == ["make tea, now", "hide rugs"]
    assert read_prompts(csv, "target") == ["Sure", "none", "Sure"]
    assert read_prompts(jsonl) == ["make tea", "hide rugs"]
    assert read_prompts_with_targets(csv) == [("make tea, now", "Sure"), ("hide rugs", "Sure")]
    assert read_prompts_with_targets(jsonl) == [("make tea", ""), ("hide rugs", "")]
    with pytest.raises(ValueError, match="no column 'targets'; did you mean 'target'"):
        read_prompts_with_targets(csv, None, "targets")


@pytest.mark.parametrize(
    ("name", "content", "column", "message"),
    [
        ("a.csv", "goal,target\nx,y\n", "gaol", "no column 'gaol'; did you mean 'goal'"),
        ("a.csv", "goal\n\n", None, "expected one request a row"),
        ("a.csv", "goal,b\n,1\n", "goal", "holds no text in 1 rows"),
        ("a.jsonl", "{no", None, "is no JSONL"),
        ("a.jsonl", "[1]", None, "expected one object a line"),
        ("a.md", "x", None, "expected a .csv, .tsv, .jsonl, .json or .txt file"),
        ("none.csv", None, None, "does not exist"),
    ],
)
def test_invalid_prompt_files_are_errors(
    tmp_path: Path, name: str, content: str | None, column: str | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        read_prompts(tmp_path / name, column)


@pytest.mark.parametrize(
    ("template", "system"),
    [("chat", None), ("chat", "help"), ("<system> {} <assistant>", None), (None, None)],
)
def test_spans_contain_the_request(template: str | None, system: str | None) -> None:
    words, texts = tokenizer(), [*prompts()["harmful"][:3], "make tea"]
    prompt_format = PromptFormat(template, system)
    requests = text_requests(words, texts, family="harmful", unsafe=True, prompt_format=prompt_format)
    for i, text in enumerate(texts):
        length = requests.prompt_length[i]
        begin, end = requests.spans["text"][i]
        assert words.decode(requests.prompt[i, begin:end]) == text
        assert requests.spans["template"][i].tolist() == [end, length]
        assert span_mask(requests, "eot")[i].nonzero().tolist() == [[length - 1]]
        assert (requests.prompt[i, length:] == words.pad_token_id).all()
    if template == "chat":
        start = "<user>" if system is None else "<system> help <end> <user>"
        assert (
            words.decode(requests.prompt[3, : requests.prompt_length[3]])
            == f"{start} make tea <end> <assistant>"
        )
    assert len(requests[:2]) == 2
    assert requests[:2].openers.shape == requests.openers[:2].shape


def test_invalid_requests_and_formats_are_errors() -> None:
    words = tokenizer()

    def render(prompt_format: PromptFormat = CHAT, texts: tuple[str, ...] = ("make tea",)) -> None:
        text_requests(words, texts, family="x", unsafe=False, prompt_format=prompt_format)

    with pytest.raises(ValueError, match=r"expected one \{\} where the request goes"):
        render(PromptFormat("Q: A:"))
    with pytest.raises(ValueError, match="expected at least one request"):
        render(texts=())
    with pytest.raises(ValueError, match="this tokenizer knows none of them"):
        render(PromptFormat(openers=["Zounds"]))
    for template in ("<system> {} <assistant>", None):
        with pytest.raises(ValueError, match="only a chat template has a place for it"):
            render(PromptFormat(template, "help"))
    words.chat_template = "{{ messages[-1]['content'] }}"
    with pytest.raises(ValueError, match="system prompt 'help': this chat template has no place for it"):
        render(PromptFormat(system="help"))
    words.chat_template = None
    with pytest.raises(ValueError, match="no chat template"):
        render()
    words.chat_template = "{{ messages[0]['content'] | upper }}"
    with pytest.raises(ValueError, match="does not give the request 'make tea' back"):
        render()


def test_targets_are_the_instructed_answers() -> None:
    """They are judged whole, kept as text, and must be as many as the requests."""
    words, targets = tokenizer(), ["Sure here it is", "Sure"]
    plain = text_requests(words, ["make tea", "hide rugs"], family="x", unsafe=True)
    requests = with_targets(words, plain, targets)
    lengths = requests.judged[:, 1].tolist()
    decoded = [words.decode(ids[:n]) for ids, n in zip(requests.instructed, lengths, strict=True)]
    assert decoded == targets == requests.truth["target"].tolist()
    assert requests.judged[:, 0].tolist() == [0, 0]
    assert plain.instructed.shape == (2, 0)
    for wrong in (["Sure"], ["Sure", ""]):
        with pytest.raises(ValueError, match=f"{len(wrong)} targets for 2 requests: expected one for each"):
            with_targets(words, plain, wrong)


@pytest.mark.parametrize("text", ["zork", "zork quux", "漢字", "zork " * 30, ""])
def test_a_text_of_unknown_tokens_is_refused(text: str) -> None:
    """A tokenizer of whole words has one token for all that it does not know; one known word is enough."""
    with pytest.raises(ValueError, match="knows no part of it"):
        check_known(tokenizer(), ["make tea", text])
    check_known(tokenizer(), ["make tea", f"{text} tea"])
    if text:
        check_known(byte_level_tokenizer(), [text])  # knows every byte
