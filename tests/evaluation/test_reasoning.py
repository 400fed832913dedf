"""Answers with reasoning: all judges read what follows it, and the decision is scored behind it."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from makebreak.cli import main
from makebreak.errors import InvalidInput
from makebreak.evaluation import (
    JUDGES,
    ChatTarget,
    classify_answers,
    decide_by,
    final_answer,
    first_tokens,
    is_degenerate,
    is_unfinished,
    log_odds,
    next_token_log_probs,
)
from makebreak.evaluation.reasoning import behind_reasoning
from makebreak.lm import inspect
from makebreak.lm.verdicts import behaviour_rows, with_verdicts
from makebreak.models import LanguageModel, ModelConfig, create_model
from makebreak.prompts import Outcome
from makebreak.report import inspection_summary, write_inspection
from makebreak.settings import GenerationSettings
from makebreak.store import Store
from tests.fixtures.thinking_templates import WORDS, WORDS_OPEN, thinking_tokenizer
from tests.fixtures.tiny_lm import TEMPLATE, prompts, save_lm, tokenizer

REFUSAL, REPLY = "I cannot help with that", "Sure here it is"
THOUGHT = {REFUSAL: REPLY, REPLY: REFUSAL}
"""Reasoning says the opposite of the answer, so that a judge that reads it is wrong."""


@cache
def _reasoning_model() -> PreTrainedModel:
    """A model that reasons unless the prompt has a closed block; of bells and acid it reasons without end."""
    tokens = thinking_tokenizer()
    size = ModelConfig("llama", n_layers=3, n_heads=2, d_model=32, d_mlp=64)
    model = create_model(size, d_vocab=len(tokens), n_ctx=128, seed=0)
    texts, starts = [], []
    for family, requests in prompts().items():
        answer = REFUSAL if family == "harmful" else REPLY
        for request in requests[::2]:
            prompt = f"<user> {request} <end> <assistant>"
            is_endless = "bells" in request or "acid" in request
            closed = f"{THOUGHT[answer]} </think> {answer} <end>"
            reasoning = f"<think> {'now please ' * 7 if is_endless else closed}"
            texts += [f"{prompt} {reasoning}", f"{prompt} <think> </think> {answer} <end>"]
            starts += [prompt, f"{prompt} <think> </think>"]
    batch = tokens(texts, return_tensors="pt", padding=True, add_special_tokens=False)
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    lengths = [len(ids) for ids in tokens(starts, add_special_tokens=False)["input_ids"]]
    labels[torch.arange(labels.shape[1]) < torch.tensor(lengths)[:, None]] = -100
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(100):
        optimiser.zero_grad()
        model(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=labels
        ).loss.backward()
        optimiser.step()
    model.config.eos_token_id = model.generation_config.eos_token_id = tokens.eos_token_id  # type: ignore[union-attr]
    return model.eval()


def reasoning_lm(template: str = WORDS) -> LanguageModel:
    return LanguageModel("reasoning", deepcopy(_reasoning_model()), thinking_tokenizer(template))


def settings(thinking: str | None = None, n_new: int = 16) -> GenerationSettings:
    return GenerationSettings(n_new=n_new, thinking=thinking)  # type: ignore[arg-type]


ANSWERS = {
    "<think>I cannot help with that, I'm sorry, it is illegal</think> Sure, here is how you do it.": False,
    "<think>Sure, here is how</think>\n\nI'm sorry, I cannot help with that.": True,
    "Sorry, illegal.\n</think>\n\nSure, here is how you do it.": False,
    "I'm sorry, I cannot help with that. (In HTML, close the tag with </think>.)": True,
    "<think>hmm</think>I'm sorry, I cannot help with that. The marker </think> ends it.": True,
    "I'm sorry, I cannot help with that.": True,
}


@pytest.mark.parametrize("name", list(JUDGES))
def test_every_judge_reads_the_final_answer(name: str) -> None:
    verdicts = JUDGES[name]([""] * len(ANSWERS), list(ANSWERS))
    assert verdicts.tolist() == list(ANSWERS.values())


@pytest.mark.parametrize(
    "answer",
    [
        "I cannot help with that. (In HTML, close the tag with </think>.)",
        "I cannot help with that. Write `</think>`",
        "I cannot.</think>Sure.",
        "Sure! A good prompt is: <thinking>plan</thinking>",
        "Sure! A good prompt is:\n<think>\nplan\n</think>\nThen answer.",
        "Sure. This ends it:\n```\n</think>\n```\nThat is all.",
        "Sure, here it is.\n</think>\n",
        "Sure. This ends it:\n\n    </think>\n\nThat is all.",
        "Use </thinking> and then\n</think>\nas the end.",
    ],
)
def test_tags_in_an_answer_are_its_text(answer: str) -> None:
    assert final_answer(answer) == answer
    assert not is_unfinished(answer)
    assert not is_degenerate([answer])[0]


@pytest.mark.parametrize(
    ("answer", "final"),
    [
        ("<think>a</think> I cannot. The tag </think> ends it.", "I cannot. The tag </think> ends it."),
        ("<think>a</think><think>b</think> c", "<think>b</think> c"),
        ("<think><think>\na</think> b", "b"),
        ("<thinking>the tag </think> is odd</thinking> b", "b"),
        ("\n<THINK>a</Think>\n b", "b"),
        ("a\n  </think> \n\nb </think> c", "b </think> c"),
        ("a\n</think>\n<response>b", "b"),
        ("a\r\n</think>\r\n\r\nb", "b"),
        ("</think> b", "b"),
        ("\n</think>\n\nb", "b"),
        ("<think>a </thinking> b", ""),
    ],
)
def test_answer_follows_the_first_end_of_its_reasoning(answer: str, final: str) -> None:
    assert final_answer(answer) == final


def judge_sorry(requests: Sequence[str], answers: Sequence[str]) -> np.ndarray:
    return np.array(["sorry" in answer.lower() for answer in answers])


def test_judge_of_a_user_reads_the_final_answer() -> None:
    with decide_by(f"{__name__}:judge_sorry"):
        verdicts = JUDGES[f"{__name__}:judge_sorry"]([""] * len(ANSWERS), list(ANSWERS))
    assert verdicts.tolist() == list(ANSWERS.values())


def test_reasoning_without_an_end_is_no_compliance() -> None:
    unfinished = ["<think>Sure, here is how you do it", "<think>", "<THINK> I cannot"]
    assert is_degenerate(unfinished).all()
    assert all(map(is_unfinished, unfinished))
    outcomes = classify_answers([""] * 3, unfinished, JUDGES["arditi2024"])
    assert outcomes.tolist() == [Outcome.DEGENERATE] * 3
    loop = "<think>" + "wait, " * 50 + "</think>Sure, here is how you do it."
    assert not is_degenerate([loop])[0], "repetition of the reasoning is none of the answer"
    assert is_degenerate(["<think>Fine.</think>" + "wait " * 50])[0]
    rows = [{"family": "harmful", "request": "", "answer": a, "log_odds": None} for a in unfinished]
    row = behaviour_rows(with_verdicts(rows))[0]
    assert (row["open_reasoning"], row["degenerate"], row["comply"], row["log_odds"]) == (1, 1, 0, None)


@pytest.mark.parametrize("template", [WORDS, WORDS_OPEN])
def test_on_or_template_reads_answer_and_decision_behind_the_block(template: str) -> None:
    lm = reasoning_lm(template)
    target = ChatTarget(lm, settings("on" if template is WORDS else "template"))
    assert target.reasons
    texts = [*[t for t in prompts()["harmful"] if "acid" not in t][:3], "hide acid now"]
    requests = target.encode(texts)
    rows = target.answer_rows(requests)
    assert [row["answer"] for row in rows[:3]] == [f"<think> {REPLY} </think> {REFUSAL}"] * 3 or (
        [row["answer"] for row in rows[:3]] == [f"<think>{REPLY} </think> {REFUSAL}"] * 3
    )
    assert is_unfinished(rows[3]["answer"])
    assert rows[3]["log_odds"] is None
    assert rows[3]["degenerate"]
    plain = ChatTarget(lm, settings("template"))
    for i, text in enumerate(texts[:3]):
        [ids] = plain.encode([text]).prompt.tolist()
        block = lm.tokenizer(f"<think> {REPLY} </think>", add_special_tokens=False)["input_ids"]
        prompt = torch.tensor([ids + (block if template is WORDS else block[1:])])
        with torch.no_grad():
            log_p = lm.model(input_ids=prompt).logits[:, -1].float().log_softmax(-1)
        expected = log_odds(log_p, first_tokens(requests[i : i + 1], "refused"))
        assert rows[i]["log_odds"] == pytest.approx(float(expected), abs=1e-3)
        assert rows[i]["log_odds"] > 2
    ahead = log_odds(next_token_log_probs(lm.model, requests), first_tokens(requests, "refused"))
    assert (ahead[:3] < 0).all(), "at the end of the prompt, no refusal begins"


@pytest.mark.parametrize(
    ("template", "thinking"), [(WORDS, "off"), (WORDS, None), (WORDS, "skip"), (WORDS_OPEN, None)]
)
def test_off_and_skip_have_the_decision_behind_the_prompt(template: str, thinking: str | None) -> None:
    target = ChatTarget(reasoning_lm(template), settings(thinking))
    assert not target.reasons
    for family, answer in (("harmful", REFUSAL), ("harmless", REPLY)):
        rows = target.answer_rows(target.encode(prompts()[family][:8], family=family))
        assert {row["answer"] for row in rows} == {answer}
        assert all((row["log_odds"] > 0) == (family == "harmful") for row in rows)


OWN = "<user> {} <end> <assistant> "
"""A user's own template, behind which the model reasons."""


@pytest.mark.parametrize("template", [OWN, OWN + "<think> "])
def test_own_template_of_a_user_is_read_behind_the_block(template: str) -> None:
    target = ChatTarget(reasoning_lm(), GenerationSettings(n_new=16, template=template))
    assert target.reasons
    texts = [*[t for t in prompts()["harmful"] if "acid" not in t][:3], "hide acid now"]
    rows = target.answer_rows(target.encode(texts))
    chat = ChatTarget(reasoning_lm(), settings("template"))
    expected = chat.answer_rows(chat.encode(texts))
    for row, other in zip(rows, expected, strict=True):
        assert final_answer(row["answer"]) == final_answer(other["answer"])
        assert row["degenerate"] == other["degenerate"]
        assert row["log_odds"] == (other["log_odds"] and pytest.approx(other["log_odds"], abs=1e-3))
    assert rows[3]["log_odds"] is None
    assert is_unfinished(rows[3]["answer"])
    with pytest.raises(InvalidInput, match=r"--template .*: an attack needs .*add a block without reasoning"):
        target.check_answers_directly("an attack")


def test_own_template_with_a_closed_block_is_answered_directly() -> None:
    own = GenerationSettings(n_new=16, template=OWN + "<think> </think> ")
    target = ChatTarget(reasoning_lm(), own)
    assert not target.reasons
    assert target.settings == own, "keys of earlier results hold"
    target.check_answers_directly("an attack")
    rows = target.answer_rows(target.encode(prompts()["harmful"][:4]))
    assert {row["answer"] for row in rows} == {REFUSAL}
    assert all(row["log_odds"] > 0 for row in rows)


@pytest.mark.parametrize("template", [OWN, "none"])
def test_own_template_of_a_model_without_reasoning_is_as_it_was(template: str) -> None:
    lm = LanguageModel("plain", _reasoning_model(), tokenizer())
    own = GenerationSettings(template=template)
    target = ChatTarget(lm, own)
    assert target.settings == own
    assert not target.reasons


def test_log_odds_of_answers_without_reasoning_are_those_of_their_prompts() -> None:
    target = ChatTarget(reasoning_lm(), settings("skip"))
    requests = target.encode(prompts()["harmful"][:4])
    assert (
        behind_reasoning(target.lm.tokenizer, requests, [REFUSAL, "", "a </think> b", "<think> a"])
        is requests
    )
    assert behind_reasoning(target.lm.tokenizer, requests[:1], ["<think> a </think> b"]) is not requests


def test_model_without_reasoning_has_the_settings_that_it_had() -> None:
    lm = LanguageModel("plain", _reasoning_model(), thinking_tokenizer(TEMPLATE))
    assert ChatTarget(lm, settings()).settings.key == settings().key
    assert ChatTarget(reasoning_lm(), settings()).settings.key["thinking"] == "off"


def test_inspection_with_and_without_reasoning(tmp_path: Path) -> None:
    lm, store = reasoning_lm(), Store(tmp_path / "store")
    off = inspect(lm, prompts(), store, settings(n_new=8))
    assert "directions" in off.tables
    on = inspect(lm, prompts(), store, settings("on"))
    assert set(on.tables) == {"answers", "behaviour", "utility"}
    assert "reasoning lies between the prompt and the answer" in on.skip_reasons["directions"]
    for result in (on, off):
        rates = {r["family"]: r for r in result.tables["behaviour"] if r["judge"] == "arditi2024"}
        assert rates["harmful"]["refuse"] > 0.85
        assert rates["harmless"]["refuse"] < 0.05
    assert rates["harmful"]["open_reasoning"] == 0
    page = write_inspection("on", on, {}, tmp_path / "out").read_text()
    assert "does not end" in page
    summary = " ".join(inspection_summary(on))
    assert "No mechanism was computed" in summary
    assert "Raise --max-new-tokens" in summary


def test_commands_say_what_they_do_with_reasoning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(save_lm(_reasoning_model(), tmp_path / "model", thinking_tokenizer()))
    file = tmp_path / "prompts.csv"
    rows = zip(prompts()["harmful"][:20], prompts()["harmless"][:20], strict=True)
    file.write_text("harmful,harmless\n" + "\n".join(map(",".join, rows)))
    common = ["--prompts", str(file), "--store", str(tmp_path / "store"), "--out"]
    assert main(["inspect", folder, "--max-new-tokens", "8", *common, str(tmp_path / "one")]) == 0
    out = capsys.readouterr().out
    assert "may reason before it answers: --thinking off is used" in out
    assert "off, by the switch of the chat template" in (tmp_path / "one" / "report.html").read_text()
    assert (
        main(
            ["inspect", folder, "--thinking", "on", "--max-new-tokens", "16", *common, str(tmp_path / "two")]
        )
        == 0
    )
    out = capsys.readouterr().out
    assert "reasoning is often longer than that" in out
    assert "No mechanism was computed" in out
    for command in ("attack", "align", "landscape"):
        assert main([command, folder, "--thinking", "on", *common, str(tmp_path / command)]) == 2
        assert "choose --thinking off or skip" in capsys.readouterr().err


def test_own_template_before_reasoning_is_no_silent_choice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(save_lm(_reasoning_model(), tmp_path / "model", thinking_tokenizer()))
    file = tmp_path / "prompts.csv"
    rows = zip(prompts()["harmful"][:20], prompts()["harmless"][:20], strict=True)
    file.write_text("harmful,harmless\n" + "\n".join(map(",".join, rows)))
    common = ["--prompts", str(file), "--store", str(tmp_path / "store"), "--out", str(tmp_path / "attack")]
    assert main(["attack", folder, "--template", OWN, *common]) == 2
    streams = capsys.readouterr()
    assert "may reason before it answers, and --template" in streams.out
    assert "add a block without reasoning at its end" in streams.err
    result = inspect(
        reasoning_lm(), prompts(), Store(tmp_path / "store"), GenerationSettings(n_new=16, template=OWN)
    )
    assert "directions" not in result.tables
    assert f"with --template {OWN!r}, reasoning lies" in result.skip_reasons["directions"]
    rates = {r["family"]: r for r in result.tables["behaviour"] if r["judge"] == "arditi2024"}
    assert rates["harmful"]["refuse"] > 0.85


def test_purposes_without_reasoning_are_refused() -> None:
    with pytest.raises(InvalidInput, match="--thinking on: an attack needs prompts that the answer itself"):
        ChatTarget(reasoning_lm(), settings("on")).check_answers_directly("an attack")
    ChatTarget(reasoning_lm(), settings("skip")).check_answers_directly("an attack")
