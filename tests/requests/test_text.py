"""Do prompts come out of their files, and do spans lie where the request is?"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from makebreak.requests import positions, read_prompts, read_targeted, shipped, text_requests
from tests.talkers import prompts, tokenizer


def test_our_prompts_are_pairs_with_the_same_verb_and_enough_of_them() -> None:
    ours = shipped()
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
    assert read_targeted(csv) == [("make tea, now", "Sure"), ("hide rugs", "Sure")]
    assert read_targeted(jsonl) == [("make tea", ""), ("hide rugs", "")]
    with pytest.raises(ValueError, match="no column 'targets'; did you mean 'target'"):
        read_targeted(csv, None, "targets")


@pytest.mark.parametrize(
    ("name", "content", "column", "said"),
    [
        ("a.csv", "goal,target\nx,y\n", "gaol", "no column 'gaol'; did you mean 'goal'"),
        ("a.csv", "goal\n\n", None, "expected one request a row"),
        ("a.csv", "goal,b\n,1\n", "goal", "holds no text in 1 rows"),
        ("a.jsonl", "{no", None, "is no JSONL"),
        ("a.jsonl", "[1]", None, "expected one object a line"),
        ("a.txt", "x", None, "expected a .csv, .tsv or .jsonl file"),
        ("none.csv", None, None, "does not exist"),
    ],
)
def test_what_is_no_file_of_prompts_is_named(
    tmp_path: Path, name: str, content: str | None, column: str | None, said: str
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=said):
        read_prompts(tmp_path / name, column)


@pytest.mark.parametrize(
    ("template", "system"),
    [("chat", None), ("chat", "help"), ("<system> {} <assistant>", None), (None, None)],
)
def test_spans_lie_where_the_request_is(template: str | None, system: str | None) -> None:
    words, texts = tokenizer(), [*prompts()["harmful"][:3], "make tea"]
    found = text_requests(words, texts, family="harmful", unsafe=True, template=template, system=system)
    for i, text in enumerate(texts):
        length = found.prompt_length[i]
        begin, end = found.spans["text"][i]
        assert words.decode(found.prompt[i, begin:end]) == text
        assert found.spans["template"][i].tolist() == [end, length]
        assert positions(found, "eot")[i].nonzero().tolist() == [[length - 1]]
        assert (found.prompt[i, length:] == words.pad_token_id).all()
    if template == "chat":
        start = "<user>" if system is None else "<system> help <end> <user>"
        assert (
            words.decode(found.prompt[3, : found.prompt_length[3]]) == f"{start} make tea <end> <assistant>"
        )
    assert len(found[:2]) == 2
    assert found[:2].openers.shape == found.openers[:2].shape


def test_what_cannot_be_asked_is_named() -> None:
    words = tokenizer()
    with pytest.raises(ValueError, match=r"expected one \{\} where the request goes"):
        text_requests(words, ["make tea"], family="x", unsafe=False, template="Q: A:")
    with pytest.raises(ValueError, match="expected at least one request"):
        text_requests(words, [], family="x", unsafe=False)
    with pytest.raises(ValueError, match="this tokenizer knows none of them"):
        text_requests(words, ["make tea"], family="x", unsafe=False, openers=["Zounds"])
    for template in ("<system> {} <assistant>", None):
        with pytest.raises(ValueError, match="only a chat template has a place for it"):
            text_requests(words, ["make tea"], family="x", unsafe=False, template=template, system="help")
    words.chat_template = "{{ messages[-1]['content'] }}"
    with pytest.raises(ValueError, match="system prompt 'help': this chat template has no place for it"):
        text_requests(words, ["make tea"], family="x", unsafe=False, system="help")
    words.chat_template = None
    with pytest.raises(ValueError, match="no chat template"):
        text_requests(words, ["make tea"], family="x", unsafe=False)
    words.chat_template = "{{ messages[0]['content'] | upper }}"
    with pytest.raises(ValueError, match="does not give the request 'make tea' back"):
        text_requests(words, ["make tea"], family="x", unsafe=False)
