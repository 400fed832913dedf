"""Rendered prompts: where the request is, what is left out, and which tokens end an answer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from makebreak.evaluation import generate_texts
from makebreak.models import ModelConfig, create_model, model_digest, open_model
from makebreak.prompts import PromptFormat, stop_tokens, text_requests, tokens_after_texts
from makebreak.store import Store
from tests.fixtures.tiny_lm import TEMPLATE, save_lm, tokenizer

CHATML = (
    "{% for m in messages %}{{ '<user> ' if m['role'] == 'user' else '<assistant> ' }}"
    "{{ m['content'] + ' <end> ' }}{% endfor %}{% if add_generation_prompt %}{{ '<assistant> help with ' }}"
    "{% endif %}"
)


def chat(template: str = TEMPLATE) -> PreTrainedTokenizerFast:
    words = tokenizer()
    words.chat_template = template
    return words


def appends_end(begin: str = "", end: str = " <end>") -> PreTrainedTokenizerFast:
    """A tokenizer that puts tokens around every text."""
    words = tokenizer()
    ids = words.get_vocab()
    tokens = [token for token in (begin.strip(), end.strip()) if token]
    words.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{begin}$A{end}", special_tokens=[(token, ids[token]) for token in tokens]
    )
    return words


@pytest.mark.parametrize("request_text", ["help", "with", "help with", "is it", "<assistant>"])
@pytest.mark.parametrize("template", ["chat", "Sure {} help with", "{}", None])
def test_request_that_is_a_word_of_the_template(request_text: str, template: str | None) -> None:
    """The span is that of the request, not that of the same words in the template."""
    words = chat(CHATML)
    prompt_format = PromptFormat(template)
    requests = text_requests(
        words, [request_text], family="harmful", unsafe=True, prompt_format=prompt_format
    )
    first = 1 if template == "chat" or (template or "").startswith("Sure") else 0
    n = len(request_text.split())
    assert requests.spans["text"].tolist() == [[first, first + n]]
    assert words.decode(requests.prompt[0, first : first + n]) == request_text


@pytest.mark.parametrize(
    "template",
    [
        "{{ messages[0]['content'] | upper }}",
        "{{ messages[0]['content'][:3] }}",
        "no place",
        "{% if 'tea' in messages[0]['content'] %}Sure {% endif %}{{ messages[0]['content'] }}",
    ],
)
def test_template_that_changes_the_request_is_refused(template: str) -> None:
    with pytest.raises(ValueError, match="does not give the request 'make tea now' back as it is"):
        text_requests(chat(template), ["make tea now"], family="harmful", unsafe=True)


def test_last_of_several_places_is_the_span() -> None:
    words = chat("{{ messages[0]['content'] + ' now ' + messages[0]['content'] + ' please' }}")
    requests = text_requests(words, ["make tea"], family="harmful", unsafe=True)
    assert requests.spans["text"].tolist() == [[3, 5]]


def test_tokens_after_a_text_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    """A prompt ends where the answer begins; the tokenizer's own end of text is said once to be left out."""
    texts, plain = ["make tea", "hide the bells now"], PromptFormat(None)
    expected = text_requests(tokenizer(), texts, family="harmful", unsafe=True, prompt_format=plain)
    words = appends_end()
    words.name_or_path = "appends"
    for _ in range(2):
        requests = text_requests(words, texts, family="harmful", unsafe=True, prompt_format=plain)
        assert requests.prompt.tolist() == expected.prompt.tolist()
        assert requests.prompt_length.tolist() == expected.prompt_length.tolist()
        assert {k: v.tolist() for k, v in requests.spans.items()} == {
            k: v.tolist() for k, v in expected.spans.items()
        }
    assert capsys.readouterr().err == (
        "the tokenizer of appends puts '<end>' after every text: it is left out of prompts\n"
    )
    assert tokens_after_texts(words) == [1]
    assert tokens_after_texts(tokenizer()) == []


def test_request_that_ends_in_the_end_of_text_keeps_it() -> None:
    requests = text_requests(
        tokenizer(), ["make tea <end>"], family="harmful", unsafe=True, prompt_format=PromptFormat(None)
    )
    assert requests.prompt[0].tolist()[-1] == 1


@pytest.mark.parametrize(("template", "n"), [("{}", 3), ("<user> {}", 3), ("<user> <user> {}", 3)])
def test_second_beginning_is_left_out(template: str, n: int, capsys: pytest.CaptureFixture[str]) -> None:
    words = appends_end(begin="<user> ", end="")
    words.bos_token, words.name_or_path = "<user>", f"begins twice {template}"
    prompt_format = PromptFormat(template)
    requests = text_requests(words, ["make tea"], family="harmful", unsafe=True, prompt_format=prompt_format)
    assert requests.prompt_length.tolist() == [n]
    assert words.decode(requests.prompt[0]) == "<user> make tea"
    assert requests.spans["text"].tolist() == [[1, 3]]
    assert ("left out of prompts" in capsys.readouterr().err) is (template != "{}")


def test_stop_tokens() -> None:
    words = chat()
    assert stop_tokens(words, 1) == 1, "the end of a turn, <end>, is known"
    assert stop_tokens(words, [0, 1]) == [0, 1]
    assert stop_tokens(words, 0) == [0, 1]
    assert stop_tokens(words, [0, 2]) == [0, 2, 1]
    assert stop_tokens(words, None) == [1]
    assert stop_tokens(words, 1, ["<pad>", "please", "<end>"]) == [1, 0], "of these texts, tokens are special"
    for template in (TEMPLATE.replace("<end>", "please"), "{{ raise_exception('no') }}", None):
        words.chat_template = template
        expected = 0 if template else [0, 1]  # without a template, the end of the text ends an answer
        assert stop_tokens(words, 0) == expected, "please, which is no special token, may be in an answer"


def test_answers_end_where_a_turn_ends(tmp_path: Path) -> None:
    """A model whose generation config knows the end of a text alone does not go on into invented turns."""
    words = chat()
    words.eos_token = "<pad>"
    words.add_special_tokens({"additional_special_tokens": ["<end>"]})
    ids = words.get_vocab()
    model = create_model(
        ModelConfig("llama", n_layers=1, n_heads=2, d_model=32, d_mlp=64),
        d_vocab=len(words),
        n_ctx=64,
        seed=0,
    )
    after = {"<assistant>": "Sure", "Sure": "here", "here": "<end>", "<end>": "<user>", "<user>": "bombs"}
    with torch.no_grad():  # each token is followed by that of the table: blocks add nothing
        for name, parameter in model.named_parameters():
            if "proj" in name:
                parameter.zero_()
        torch.nn.init.orthogonal_(model.get_input_embeddings().weight)
        head = model.get_output_embeddings().weight.zero_()
        for token, following in after.items():
            head[ids[following]] += model.get_input_embeddings().weight[ids[token]]
    answers = {}
    for end in ("<pad>", "<end>"):
        model.config.eos_token_id = model.generation_config.eos_token_id = ids[end]
        lm = open_model(save_lm(model, tmp_path / end.strip("<>"), words), store=Store(tmp_path / "store"))
        requests = text_requests(lm.tokenizer, ["make tea"], family="harmful", unsafe=True)
        answers[end] = generate_texts(lm, requests, n_new=8)
        lm.tokenizer.chat_template = TEMPLATE.replace("<end>", "please")
        answers[end] += generate_texts(replace(lm), requests, n_new=8)
        digests = {model_digest(replace(lm)), model_digest(lm)}
        assert len(digests) == (2 if end == "<pad>" else 1), "what ends an answer is in the keys of results"
    assert answers["<end>"] == ["Sure here", "Sure here"]
    assert answers["<pad>"][0] == "Sure here"
    assert answers["<pad>"][1].startswith("Sure here <user> bombs"), "the control: no template says so"


def test_role_that_a_template_refuses_is_named() -> None:
    """An error of the template about the system role is one about --system; any other stays as it is."""
    refusing = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    words = chat(refusing + "{{ messages[-1]['content'] }}")
    with pytest.raises(ValueError, match=r"system prompt 'help': .* has no place for it; leave"):
        text_requests(words, ["make tea"], family="f", unsafe=True, prompt_format=PromptFormat(system="help"))
    assert len(text_requests(words, ["make tea"], family="f", unsafe=True)) == 1
    words = chat("{{ raise_exception('no user role') }}")
    with pytest.raises(ValueError, match=r"cannot be rendered .*no user role"):
        text_requests(words, ["make tea"], family="f", unsafe=True, prompt_format=PromptFormat(system="help"))
