"""Do mixed sets hold exactly what their rate and their mitigation say, and nothing else?"""

from __future__ import annotations

import sys
from types import ModuleType

import numpy as np
import pytest

from makebreak.defences import MITIGATIONS, Mixed, Safety, mitigation, mixed_set
from makebreak.recipes import Alignment
from makebreak.requests import Requests, Sequences, load_world, sequences
from makebreak.training import Optimisation
from synthetic.formats import REFUSALS

WORLD = load_world("formats_templates")
USER, EXAMPLES = "mcq_safe_new@obey", 200
REFUSING = [WORLD.vocabulary.id(symbol) for symbols in REFUSALS for symbol in symbols]
SAYS = {  # what stands before the text of safety examples, by format and template
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


def of_safety(objective: Mixed) -> tuple[list[list[str]], Sequences]:
    found = mixed_set(WORLD, objective, 3)
    rows = found.tokens[-objective.safety_examples :]
    return [WORLD.vocabulary.decode(row.numpy()).replace(" <pad>", "").split() for row in rows], found


@pytest.mark.parametrize("name", MITIGATIONS)
@pytest.mark.parametrize("rate", [0.005, 0.05, 0.2])
def test_a_mixed_set_is_what_its_rate_says(name: str, rate: float) -> None:
    objective = Mixed(USER, EXAMPLES, name, rate)
    said, found = of_safety(objective)
    n = round(rate * EXAMPLES)
    assert len(found) == EXAMPLES
    assert len(said) == n
    refusing = np.isin(found.tokens.numpy(), REFUSING) & found.supervised.numpy()
    expected = 0 if name == "safe_twin" else 3 * n
    assert refusing.sum() == expected, "refusal tokens"
    if name != "safe_twin":
        begun = name in (
            "paraphrase_oracle",
            "paraphrase_blind",
            "mismatched",
        )  # the user's header, and one STOP
        assert found.supervised[-n:].sum().item() == n * (4 + begun)
    own = sequences(WORLD, WORLD.sample(USER, EXAMPLES - n, seed=3), "instructed", whole=True)
    assert (found.tokens[:-n] == own.tokens).all()
    assert (found.supervised[:-n] == own.supervised).all()


@pytest.mark.parametrize("name", MITIGATIONS)
def test_safety_examples_are_in_the_formats_that_are_said_and_spread_alike(name: str) -> None:
    said, _ = of_safety(Mixed(USER, EXAMPLES, name, 0.18))
    operators = [
        next(s for s in row if s.rstrip("12").removesuffix("_new") in WORLD.config.formats) for row in said
    ]
    formats = [operator.rstrip("12").removesuffix("_new") for operator in operators]
    assert set(formats) == SAYS[name]
    counts = [formats.count(form) for form in set(formats)]
    assert max(counts) - min(counts) <= 1
    mimics = name in ("paraphrase_oracle", "paraphrase_blind", "mismatched", "safe_twin")
    assert all(("obey1" in row) == mimics for row in said)
    assert all(("instruct1" in row) == (name == "other_template") for row in said)
    assert all(operator.endswith("_new") == mimics for operator in operators)


def test_all_mitigations_teach_the_same_contents() -> None:
    """Request i is about the same topics; of another seed, it is not."""
    topics = {}
    for name in ("canonical", "other_template", "paraphrase_oracle", "mismatched"):
        ((requests, _),) = mitigation(name)(Safety(WORLD, 30, 9), WORLD.sample(USER, 20, seed=0))
        topics[name] = [requests.truth[column].tolist() for column in ("first", "last", "filler")]
    assert len({str(value) for value in topics.values()}) == 1
    spread = Safety(WORLD, 30, 9).spread(["gen_unsafe", "map_unsafe", "label_unsafe"])
    every = np.concatenate([part.truth["first"] for part in spread])
    assert sorted(every.tolist()) == sorted(topics["canonical"][0])
    ((other, _),) = mitigation("canonical")(Safety(WORLD, 30, 10), WORLD.sample(USER, 20, seed=0))
    assert other.truth["first"].tolist() != topics["canonical"][0]


def test_the_blind_one_writes_what_the_oracle_does_where_the_payload_is_alike() -> None:
    user = "label_safe_new@neutral"
    blind, oracle = (
        of_safety(Mixed(user, EXAMPLES, f"paraphrase_{how}", 0.1))[0] for how in ("blind", "oracle")
    )
    assert blind == oracle


def test_shuffled_answers_are_the_same_answers_of_other_requests() -> None:
    right, wrong = (
        mixed_set(WORLD, Mixed("gen_safe_new", 50, answers=how), 3) for how in ("instructed", "shuffled")
    )  # type: ignore[arg-type]
    last = right.supervised[0].nonzero()[0].item()
    assert (right.tokens[:, :last] == wrong.tokens[:, :last]).all()
    assert (right.tokens[:, last:].roll(1, dims=0) == wrong.tokens[:, last:]).all()
    assert not (right.tokens == wrong.tokens).all()


def test_batches_are_drawn_from_the_mixed_set() -> None:
    objective = Mixed(USER, 40, "canonical", 0.25)
    whole = {tuple(row) for row in mixed_set(WORLD, objective, 3).tokens.tolist()}
    seen = [
        objective.batch(WORLD, size=16, step=step, steps=30, seed=3).tokens.tolist() for step in range(30)
    ]
    assert {tuple(row) for batch in seen for row in batch} == whole


def test_a_mitigation_of_ones_own_is_named_by_its_module(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("mine")

    def answered(safety: Safety, user: Requests) -> list[tuple[Requests, str]]:
        return [(safety.of("gen_unsafe"), "instructed")]

    def too_few(safety: Safety, user: Requests) -> list[tuple[Requests, str]]:
        return [(safety.of("gen_unsafe")[:1], "refused")]

    module.answered, module.too_few = answered, too_few  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mine", module)
    said, _ = of_safety(Mixed(USER, EXAMPLES, "mine:answered", 0.02))
    assert not np.isin(REFUSING, [WORLD.vocabulary.id(s) for row in said for s in row]).any()
    with pytest.raises(ValueError, match="mitigation 'mine:too_few' wrote 1 examples: expected 4"):
        mixed_set(WORLD, Mixed(USER, EXAMPLES, "mine:too_few", 0.02), 3)


def test_bad_input_is_told() -> None:
    for name in ("canonicle", "nowhere:canonical", "makebreak.defences:nothing", ":x"):
        with pytest.raises(
            ValueError, match=f"mitigation '{name}' does not exist; .*or give MODULE:FUNCTION"
        ):
            mitigation(name)
    with pytest.raises(
        ValueError, match=r"mitigation 'none', 0\.1 of 200 examples: expected 'none' where that is no"
    ):
        Mixed(USER, EXAMPLES, "none", 0.1)
    with pytest.raises(ValueError, match=r"mitigation 'canonical', 0\.001 of 200 examples"):
        Mixed(USER, EXAMPLES, "canonical", 0.001)
    with pytest.raises(ValueError, match="rate"):
        Mixed(USER, EXAMPLES, "canonical", 1.5)


def test_it_is_called_what_it_is() -> None:
    optimisation = Optimisation(steps=1, learning_rate=1e-3)
    named = {
        Mixed(USER, 100): "tuned:mcq_safe_new@obey",
        Mixed(USER, 100, "canonical", 0.1): "tuned:mcq_safe_new@obey+10:canonical",
        Mixed("gen_safe", 100, answers="shuffled"): "tuned:gen_safe:shuffled",
    }
    assert {Alignment(objective, optimisation).mechanism for objective in named} == set(named.values())
