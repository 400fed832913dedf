"""Mixed fine-tuning: examples have the number, format and answers that share and mitigation demand."""

from __future__ import annotations

import sys
from types import ModuleType

import numpy as np
import pytest

from makebreak.defences import MITIGATIONS, MixedFineTuning, SafetyData, load_mitigation, mixed_sequences
from makebreak.prompts import Requests, Sequences, load_world, sequences
from makebreak.recipes import Alignment
from makebreak.training import Optimisation
from synthetic.formats.tables import REFUSALS

WORLD = load_world("formats_templates")
USER, EXAMPLES = "mcq_safe_new@obey", 200
REFUSING = [WORLD.vocabulary.id(symbol) for symbols in REFUSALS for symbol in symbols]
FORMATS_OF = {  # formats of the safety examples
    "canonical": {"gen"},
    "other_template": {"gen"},
    "paraphrase_oracle": {"mcq"},
    "paraphrase_blind": {"mcq"},
    "mismatched": {"map"},
    "multitask": {"gen", "map", "label", "mcq"},
    "without_own": {"gen", "map", "label"},
    "without_gen": {"map", "label", "mcq"},
    "safe_twin": {"mcq"},
}


def safety_examples(objective: MixedFineTuning) -> tuple[list[list[str]], Sequences]:
    batch = mixed_sequences(WORLD, objective, 3)
    rows = batch.tokens[-objective.n_safety :]
    return [WORLD.vocabulary.decode(row.numpy()).replace(" <pad>", "").split() for row in rows], batch


@pytest.mark.parametrize("name", MITIGATIONS)
@pytest.mark.parametrize("share", [0.005, 0.05, 0.2])
def test_share_of_safety_examples(name: str, share: float) -> None:
    objective = MixedFineTuning(USER, EXAMPLES, name, share)
    texts, batch = safety_examples(objective)
    n = round(share * EXAMPLES)
    assert len(batch) == EXAMPLES
    assert len(texts) == n
    refusing = np.isin(batch.tokens.numpy(), REFUSING) & batch.supervised.numpy()
    expected = 0 if name == "safe_twin" else 3 * n
    assert refusing.sum() == expected, "refusal tokens"
    if name != "safe_twin":
        has_answer_prefix = name in (
            "paraphrase_oracle",
            "paraphrase_blind",
            "mismatched",
        )  # the user's answer prefix, and one STOP
        assert batch.supervised[-n:].sum().item() == n * (4 + has_answer_prefix)
    user = sequences(WORLD, WORLD.sample(USER, EXAMPLES - n, seed=3), "instructed", whole=True)
    assert (batch.tokens[:-n] == user.tokens).all()
    assert (batch.supervised[:-n] == user.supervised).all()


@pytest.mark.parametrize("name", MITIGATIONS)
def test_formats_of_safety_examples(name: str) -> None:
    texts, _ = safety_examples(MixedFineTuning(USER, EXAMPLES, name, 0.18))
    operators = [
        next(s for s in row if s.rstrip("12").removesuffix("_new") in WORLD.config.formats) for row in texts
    ]
    formats = [operator.rstrip("12").removesuffix("_new") for operator in operators]
    assert set(formats) == FORMATS_OF[name]
    counts = [formats.count(form) for form in set(formats)]
    assert max(counts) - min(counts) <= 1
    mimics = name in ("paraphrase_oracle", "paraphrase_blind", "mismatched", "safe_twin")
    assert all(("obey1" in row) == mimics for row in texts)
    assert all(("instruct1" in row) == (name == "other_template") for row in texts)
    assert all(operator.endswith("_new") == mimics for operator in operators)


def test_mitigations_share_their_contents() -> None:
    """Request i has the same topics in all mitigations, and others with another seed."""
    topics = {}
    for name in ("canonical", "other_template", "paraphrase_oracle", "mismatched"):
        ((requests, _),) = load_mitigation(name)(SafetyData(WORLD, 30, 9), WORLD.sample(USER, 20, seed=0))
        topics[name] = [requests.truth[column].tolist() for column in ("first_topic", "last_topic", "filler")]
    assert len({str(value) for value in topics.values()}) == 1
    spread = SafetyData(WORLD, 30, 9).round_robin(["gen_unsafe", "map_unsafe", "label_unsafe"])
    every = np.concatenate([part.truth["first_topic"] for part in spread])
    assert sorted(every.tolist()) == sorted(topics["canonical"][0])
    ((other, _),) = load_mitigation("canonical")(SafetyData(WORLD, 30, 10), WORLD.sample(USER, 20, seed=0))
    assert other.truth["first_topic"].tolist() != topics["canonical"][0]


def test_blind_paraphrase_can_equal_the_oracle() -> None:
    user = "label_safe_new@neutral"
    blind, oracle = (
        safety_examples(MixedFineTuning(user, EXAMPLES, f"paraphrase_{kind}", 0.1))[0]
        for kind in ("blind", "oracle")
    )
    assert blind == oracle


def test_shuffled_answers_are_those_of_others() -> None:
    instructed, shuffled = (
        mixed_sequences(WORLD, MixedFineTuning("gen_safe_new", 50, answers=answers), 3)
        for answers in ("instructed", "shuffled")
    )  # type: ignore[arg-type]
    last = instructed.supervised[0].nonzero()[0].item()
    assert (instructed.tokens[:, :last] == shuffled.tokens[:, :last]).all()
    assert (instructed.tokens[:, last:].roll(1, dims=0) == shuffled.tokens[:, last:]).all()
    assert not (instructed.tokens == shuffled.tokens).all()


def test_batches_contain_all_examples() -> None:
    objective = MixedFineTuning(USER, 40, "canonical", 0.25)
    examples = {tuple(row) for row in mixed_sequences(WORLD, objective, 3).tokens.tolist()}
    batches = [
        objective.batch(WORLD, size=16, step=step, steps=30, seed=3).tokens.tolist() for step in range(30)
    ]
    assert {tuple(row) for batch in batches for row in batch} == examples


def test_a_users_mitigation(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("mine")

    def benign(safety: SafetyData, user: Requests) -> list[tuple[Requests, str]]:
        return [(safety.sample("gen_unsafe"), "instructed")]

    def too_few(safety: SafetyData, user: Requests) -> list[tuple[Requests, str]]:
        return [(safety.sample("gen_unsafe")[:1], "refused")]

    module.benign, module.too_few = benign, too_few  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mine", module)
    texts, _ = safety_examples(MixedFineTuning(USER, EXAMPLES, "mine:benign", 0.02))
    assert not np.isin(REFUSING, [WORLD.vocabulary.id(s) for row in texts for s in row]).any()
    with pytest.raises(ValueError, match="mitigation 'mine:too_few' wrote 1 examples: expected 4"):
        mixed_sequences(WORLD, MixedFineTuning(USER, EXAMPLES, "mine:too_few", 0.02), 3)


def test_bad_input() -> None:
    for name, reason in (
        ("canonicle", r"does not exist; did you mean 'canonical'\? \(MODULE:NAME loads one of your own\)"),
        (":x", r"does not exist; expected one of canonical, .* \(MODULE:NAME"),
        ("nowhere:canonical", r"module 'nowhere' cannot be imported \(ModuleNotFoundError: No module named"),
        ("makebreak.defences:nothing", "module 'makebreak.defences' has no 'nothing'; expected one of"),
    ):
        with pytest.raises(ValueError, match=f"mitigation '{name}':? {reason}"):
            load_mitigation(name)
    with pytest.raises(
        ValueError, match=r"mitigation 'none', 0\.1 of 200 examples: expected 'none' where that is no"
    ):
        MixedFineTuning(USER, EXAMPLES, "none", 0.1)
    with pytest.raises(ValueError, match=r"mitigation 'canonical', 0\.001 of 200 examples"):
        MixedFineTuning(USER, EXAMPLES, "canonical", 0.001)
    with pytest.raises(ValueError, match="safety_share"):
        MixedFineTuning(USER, EXAMPLES, "canonical", 1.5)


def test_mechanism_names() -> None:
    optimisation = Optimisation(steps=1, learning_rate=1e-3)
    mechanisms = {
        MixedFineTuning(USER, 100): "tuned:mcq_safe_new@obey",
        MixedFineTuning(USER, 100, "canonical", 0.1): "tuned:mcq_safe_new@obey+10:canonical",
        MixedFineTuning("gen_safe", 100, answers="shuffled"): "tuned:gen_safe:shuffled",
    }
    assert {Alignment(objective, optimisation).mechanism for objective in mechanisms} == set(
        mechanisms.values()
    )
