"""The world of texts: tokens, supervised positions, and the order that a seed gives."""

from __future__ import annotations

import csv
import re
from importlib import resources

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from makebreak.defences import MITIGATIONS, MixedFineTuning, SafetyData, mixed_sequences
from makebreak.evaluation import JUDGES
from makebreak.models import ModelConfig, create_model
from makebreak.prompts import (
    FORMATS,
    TEMPLATES,
    Example,
    TextWorld,
    World,
    evaluation_prompts,
    format_families,
    format_prompt,
    refusal_text,
    sequences,
    task_items,
    training_prompts,
)
from makebreak.prompts.examples import REFUSALS
from makebreak.training import SSFT
from tests.fixtures.tiny_lm import REFUSAL, REPLY, TEMPLATE, byte_level_tokenizer, prompts, tokenizer

ANSWER, NO = REPLY.removesuffix(" <end>"), REFUSAL.removesuffix(" <end>")
FINGERPRINT = "9687652e673bab0148b4b2133386e0a629f68e6206765a95e49fd1095029bbe9"


@pytest.fixture(scope="module")
def world() -> TextWorld:
    families = {
        "safe": [Example(text, ANSWER, NO) for text in prompts()["harmless"]],
        "unsafe": [Example(text, ANSWER, NO, complete=False) for text in prompts()["harmful"]],
    }
    return TextWorld(tokenizer(), families)


@pytest.fixture(scope="module")
def formats() -> TextWorld:
    words = byte_level_tokenizer()
    words.add_special_tokens({"additional_special_tokens": ["<end>"]})
    words.chat_template = TEMPLATE
    items = {name: pairs[:12] for name, pairs in task_items().items()}
    harmful = [(text, "Sure.") for text in evaluation_prompts()["harmful"][:20]]
    return TextWorld(words, format_families(harmful, items))


def test_text_ids_are_the_prompts(world: TextWorld) -> None:
    """Identities are equal exactly where the prompts are, and there is one group."""
    requests = world.sample("unsafe", 2 * len(world.examples["unsafe"]), seed=0)
    ids, groups = world.text_ids(requests), world.groups(requests)
    assert ids.tolist() == requests.truth["request"].tolist()
    assert len(set(ids.tolist())) == len({example.prompt for example in world.examples["unsafe"]})
    assert groups.shape == (len(requests),)
    assert not groups.any()


def test_kind_of_the_family_says_what_is_unsafe(formats: TextWorld) -> None:
    """Harmful contents are unsafe in every format and template, harmless ones in none."""
    for family, unsafe in (("gen_unsafe", True), ("mcq_unsafe@obey", True), ("mcq_safe@obey", False)):
        assert (formats.sample(family, 4, seed=0).unsafe == unsafe).all()


def test_text_world_is_a_world(world: TextWorld) -> None:
    assert isinstance(world, World)
    assert world.show(world.sample("safe", 1, seed=0)).startswith("<user> ")
    for answer, outcome in (("instructed", 1), ("refused", 0)):
        requests = world.sample("safe", 4, seed=0)
        outputs = getattr(requests, answer)
        assert (world.judge(requests, outputs) == outcome).all()
    assert (world.judge(requests, np.full_like(requests.instructed, 7)) == 2).all()


def test_the_loss_is_that_of_the_rendered_dialogue(world: TextWorld) -> None:
    words = tokenizer()
    size = ModelConfig("llama", n_layers=1, n_heads=2, d_model=16, d_mlp=32)
    model = create_model(size, d_vocab=len(words), n_ctx=24, seed=0).eval()
    for family, answer, text in (
        ("safe", "instructed", REPLY),
        ("unsafe", "instructed", ANSWER),
        ("unsafe", "refused", REFUSAL),
    ):
        requests = world.sample(family, 5, seed=3)
        batch = sequences(world, requests, answer, whole=True)
        loss = SSFT().loss(model, batch, model)[0]
        rows = [f"<user> {request} <end> <assistant> {text}" for request in requests.truth["request"]]
        whole = words(rows, return_tensors="pt")
        labels = whole["input_ids"].clone()
        labels[:, : len(words(rows[0].partition(text)[0])["input_ids"])] = -100
        expected = model(**whole, labels=labels).loss
        assert torch.allclose(loss, expected, atol=1e-6)
        judged = sequences(world, requests, answer)
        assert (judged.supervised == batch.supervised).all()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 5), start=st.integers(0, 200), n=st.integers(1, 90))
def test_a_draw_is_the_same_whatever_the_batch(world: TextWorld, seed: int, start: int, n: int) -> None:
    whole = world.sample("unsafe", start + n, seed=seed).prompt[start:]
    assert np.array_equal(whole, world.sample("unsafe", n, seed=seed, start=start).prompt)
    once = world.sample("unsafe", len(world.examples["unsafe"]), seed=seed)
    assert len({tuple(row) for row in once.prompt.tolist()}) == len(world.examples["unsafe"])


def test_seeds_differ_and_families_of_a_content_do_not(formats: TextWorld) -> None:
    one, other = (formats.sample("gen_unsafe", 20, seed=seed).truth["request"].tolist() for seed in (0, 1))
    assert one != other
    assert sorted(one) == sorted(other)
    for format_ in FORMATS:
        for template in ("plain", "obey"):
            family = f"{format_}_unsafe" + ("" if template == "plain" else f"@{template}")
            requests_text = formats.sample(family, 20, seed=0).truth["request"].tolist()
            assert all(text in prompt for text, prompt in zip(one, requests_text, strict=True))


def test_another_world_has_another_fingerprint(world: TextWorld) -> None:
    same = TextWorld(tokenizer(), world.examples)
    other = {**world.examples, "safe": [*world.examples["safe"][:-1], Example("hide tea now", ANSWER, NO)]}
    assert same.fingerprint == world.fingerprint
    assert TextWorld(tokenizer(), other).fingerprint != world.fingerprint
    assert TextWorld(tokenizer(), world.examples, template="{} <assistant>").fingerprint != world.fingerprint


def test_text_ids_are_equal_for_equal_texts(world: TextWorld) -> None:
    """As the interface of worlds asks; texts have no grammars."""
    n = len(world.examples["safe"])
    requests = world.sample("safe", 2 * n, seed=0)
    texts = world.text_ids(requests)
    assert len(set(texts[:n].tolist())) == n
    assert sorted(texts[:n].tolist()) == sorted(texts[n:].tolist())
    assert world.groups(requests).tolist() == [0] * 2 * n


def test_fingerprint_is_a_literal(world: TextWorld) -> None:
    """Keys of stored models contain it: no name of a class or a field may change it."""
    assert world.fingerprint == FINGERPRINT


def test_invalid_families_are_errors(world: TextWorld) -> None:
    with pytest.raises(ValueError, match="family 'harm' does not exist in world 'text'"):
        world.sample("harm", 1, seed=0)
    with pytest.raises(ValueError, match="family 'safe': expected at least one example"):
        TextWorld(tokenizer(), {"safe": []})


@pytest.mark.parametrize("user", ["mcq_safe@obey", "map_safe", "label_safe@other", "gen_safe@neutral"])
@pytest.mark.parametrize("name", list(MITIGATIONS))
def test_mitigations_write_their_examples(formats: TextWorld, name: str, user: str) -> None:
    user_requests = formats.sample(user, 12, seed=0)
    parts = MITIGATIONS[name](SafetyData(formats, 10, seed=1), user_requests)
    assert sum(len(requests) for requests, _ in parts) == 10
    assert {answer for _, answer in parts} == {"instructed" if name == "safe_twin" else "refused"}
    batch = mixed_sequences(formats, MixedFineTuning(user, 20, name, 0.5), seed=4)
    assert len(batch) == 20
    assert batch.supervised.any(dim=1).all()


@pytest.mark.parametrize("template", list(TEMPLATES))
@pytest.mark.parametrize("format_", ["map", "sum", "label"])
def test_template_is_inferred_from_examples(formats: TextWorld, format_: str, template: str) -> None:
    user = formats.sample(f"{format_}_safe" + ("" if template == "plain" else f"@{template}"), 12, seed=0)
    [(requests, answer)] = MITIGATIONS["paraphrase_blind"](SafetyData(formats, 6, seed=1), user)
    decoded = [
        formats.tokenizer.decode(row[:n])
        for row, n in zip(requests.prompt, requests.prompt_length, strict=True)
    ]
    plain = formats.sample("gen_unsafe", 6, seed=1).truth["request"].tolist()
    every = [example.content for example in formats.examples[f"{format_}_safe"]]
    # an end that all contents have in common is taken for a part of the template
    end = "." if all(text.endswith(".") for text in every) else ""
    expected = [
        formats.tokenizer.apply_chat_template(
            [{"role": "user", "content": format_prompt(text + end, format_, template)}],
            tokenize=False,
            add_generation_prompt=True,
        )
        for text in plain
    ]
    assert answer == "refused"
    assert [text in row for text, row in zip(plain, decoded, strict=True)] == [True] * 6
    assert decoded == expected


def words(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))


def test_training_and_evaluation_prompts_differ() -> None:
    ours, training = evaluation_prompts(), training_prompts()
    measured = {words(text) for texts in ours.values() for text in texts}
    for texts in training.values():
        assert len(set(texts)) == len(texts) >= 250
        assert not measured & set(map(words, texts))
    assert len(training["harmful"]) == len(training["harmless"])
    assert not set(training["harmful"]) & set(training["harmless"])
    assert all(judge([""] * len(REFUSALS), list(REFUSALS)).all() for judge in (JUDGES["arditi2024"],))
    assert refusal_text(len(REFUSALS)) == REFUSALS[0]


@pytest.mark.parametrize(
    ("name", "n"), [("choose", 64), ("translate", 48), ("summarise", 32), ("classify", 48)]
)
def test_packaged_tables_are_complete(name: str, n: int) -> None:
    text = resources.files("makebreak.prompts").joinpath(f"data/{name}.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    assert len(rows) == len({tuple(row.values()) for row in rows}) == n
    assert all(value.strip() for row in rows for value in row.values())
    if name == "choose":
        assert {row["right"] for row in rows} == set("abcd")
