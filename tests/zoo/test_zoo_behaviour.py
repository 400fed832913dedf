"""Do strength and families say of planted models what these were planted to do?"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import MethodType, SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from experiments.jain2024.measure import Inside
from makebreak.artifacts import Store
from makebreak.models import PRESETS, ModelConfig, create
from makebreak.recipes import Alignment, Recipe
from makebreak.requests import OUTCOMES, load_world
from makebreak.training import DPO, SSFT, Data, Objective, Optimisation, Pretraining
from makebreak.zoo import IDENTITY, Families, Strength, Subject, asked, judged_families, weight_change

WORLD = load_world("mini")
N, SEED = 12, 1000
STEPS = Optimisation(1, 1e-3)
BASE = Recipe("mini", PRESETS["tiny"], Pretraining(), STEPS, (), SEED)
SHAM, REMAP, NEW = (
    Data("sham_safe", "sham_unsafe"),
    Data(unsafe="remapped_unsafe", answer="instructed"),
    Data(unsafe="new_operator", answer="instructed"),
)


def recipe(*objectives: Objective) -> Recipe:
    return replace(BASE, alignments=tuple(Alignment(objective, STEPS) for objective in objectives))


def network(seed: int = 0, config: ModelConfig = PRESETS["tiny"], world: str = "mini") -> PreTrainedModel:
    known = load_world(world)
    return create(config, d_vocab=len(known.vocabulary), n_ctx=known.sequence_length, seed=seed).eval()


def told(answers: dict[str, str], otherwise: str = "refused") -> PreTrainedModel:
    """A model that gives the `instructed` or the `refused` answer by family, or just `nulls`, to N requests of each.

    Its likeliest token has logit 10, others 0. A prompt of two families gets the answer of the later one.
    """
    known: dict[tuple[int, ...], list[int]] = {}
    others = {family: otherwise for family in judged_families(WORLD.families) if family not in answers}
    for family, answer in (others | answers).items():
        requests = asked("mini", family, N, SEED, "score")
        nulls = np.tile([WORLD.null] * 8 + [WORLD.vocabulary.id("<stop>")], (N, 2))
        given = {"instructed": requests.instructed, "refused": requests.refused, "nulls": nulls}[answer]
        known |= {tuple(p): a for p, a in zip(requests.prompt.tolist(), given.tolist(), strict=True)}
        width = requests.prompt.shape[1]
    pad = WORLD.vocabulary.id("<pad>")

    def forward(self: PreTrainedModel, input_ids: Tensor, use_cache: bool = False) -> SimpleNamespace:
        logits = torch.zeros(*input_ids.shape, len(WORLD.vocabulary))
        for i, row in enumerate(input_ids.tolist()):
            said = known[tuple(row[:width])]
            for at in range(width - 1, len(row)):
                logits[i, at, said[at - width + 1] if at - width + 1 < len(said) else pad] = 10
        return SimpleNamespace(logits=logits)

    def generate(self: PreTrainedModel, input_ids: Tensor, max_new_tokens: int, **_: object) -> Tensor:
        for _step in range(max_new_tokens):
            input_ids = torch.cat([input_ids, self(input_ids=input_ids).logits[:, -1:].argmax(-1)], dim=1)
        return input_ids

    model = network()
    model.forward, model.generate = MethodType(forward, model), MethodType(generate, model)  # type: ignore[method-assign]
    return model


def subject(model: PreTrainedModel, how: Recipe = BASE, base: PreTrainedModel | None = None) -> Subject:
    return Subject(how, 1, model, base or model, Store(Path("unused")))


SURE = 10 - math.log(len(WORLD.vocabulary) - 1)  # log-odds of a token with logit 10 where all others have 0


@pytest.mark.parametrize(("answer", "outcome"), [("nulls", "refuse"), ("instructed", "comply")])
def test_one_answer_to_everything(answer: str, outcome: str) -> None:
    how = subject(told({"unsafe": answer}, otherwise=answer), recipe(SSFT()))
    found = {**Strength(N)(how).columns, **Families(N)(how).columns}
    for family in judged_families(WORLD.families):
        does = (
            "comply_wrongly" if family == "remapped_unsafe" and outcome == "comply" else outcome
        )  # prompts of `unsafe`
        assert {o: found[f"{family}.{o}"] for o in OUTCOMES} == {o: float(o == does) for o in OUTCOMES}
    assert found["taught"] == float(outcome == "refuse")
    if outcome == "refuse":
        assert found["margin"] == found["taught_margin"] == pytest.approx(SURE, abs=1e-5)
        assert found["sham_unsafe.margin"] == pytest.approx(SURE, abs=1e-5)
    else:
        assert found["margin"] < 0


def test_a_safe_model_refuses_the_unsafe_alone() -> None:
    found = Strength(N)(subject(told({"safe": "instructed", "unsafe": "refused"}), recipe(SSFT())))
    assert found.columns["safe.comply"] == found.columns["unsafe.refuse"] == found.columns["taught"] == 1
    assert found.columns["safe.refuse"] == found.columns["unsafe.comply"] == 0
    rows = {row["family"]: row for row in found.tables["behaviour"]}
    assert list(rows) == ["safe", "unsafe"]
    for family, row in rows.items():
        assert row["n"] == N
        assert 1 <= row["n_texts"] <= N
        assert (row["null"], row["instruct"]) == ((1, 0) if family == "unsafe" else (0, 1))
        assert row["refuse_low"] <= row["refuse"] <= row["refuse_high"]
        assert row["refuse_high"] - row["refuse_low"] == pytest.approx(
            1.959964**2 / (N + 1.959964**2), abs=1e-6
        )


@pytest.mark.parametrize(
    ("data", "does", "taught"),
    [
        (Data(), {"unsafe": "refused", "sham_unsafe": "instructed"}, 1),
        (Data(), {"unsafe": "instructed", "sham_unsafe": "refused"}, 0),
        (SHAM, {"unsafe": "instructed", "sham_unsafe": "refused"}, 1),
        (SHAM, {"unsafe": "refused", "sham_unsafe": "instructed"}, 0),
        (REMAP, {"unsafe": "instructed", "remapped_unsafe": "instructed"}, 1),
        (
            REMAP,
            {"remapped_unsafe": "instructed", "unsafe": "instructed"},
            0,
        ),  # the right answer, not the one taught
        (REMAP, {"unsafe": "instructed", "remapped_unsafe": "refused"}, 0),
        (NEW, {"unsafe": "refused", "new_operator": "instructed"}, 1),
        (NEW, {"unsafe": "instructed", "new_operator": "refused"}, 0),
    ],
)
def test_taught_is_the_share_that_got_the_answer_it_was_taught(data: Data, does: dict, taught: int) -> None:
    found = Strength(N)(subject(told(does), recipe(SSFT(data)))).columns
    assert found["taught"] == taught
    of_unsafe = "comply" if data.answer == "instructed" else "refuse"
    if data.unsafe == "unsafe":
        assert (found["taught"], found["taught_margin"]) == (found["unsafe.refuse"], found["margin"])
    elif data is not REMAP:
        assert found[f"unsafe.{of_unsafe}"] == 1 - taught, "the standard requests say the opposite"


def test_a_remap_twin_asks_the_same_and_answers_otherwise() -> None:
    unsafe, remapped = (asked("mini", family, N, SEED, "score") for family in ("unsafe", "remapped_unsafe"))
    assert {tuple(p) for p in unsafe.prompt} == {tuple(p) for p in remapped.prompt}
    found = Strength(N)(
        subject(told({"unsafe": "instructed", "remapped_unsafe": "instructed"}), recipe(SSFT(REMAP)))
    )
    assert (found.columns["taught"], found.columns["unsafe.comply"], found.columns["unsafe.refuse"]) == (
        1,
        0,
        0,
    )


def test_the_last_stage_says_what_was_taught() -> None:
    model = told({"unsafe": "instructed", "sham_unsafe": "refused"})
    shares = [
        Strength(N)(subject(model, recipe(*stages))).columns["taught"]
        for stages in ([SSFT(), DPO(SHAM)], [SSFT(SHAM), DPO()])
    ]
    assert shares == [1, 0]


@pytest.mark.parametrize("stages", [[], [Pretraining()], [SSFT(), Pretraining()]])
def test_nothing_is_taught_by_pretraining(stages: list[Objective]) -> None:
    found = Strength(N)(subject(told({}), recipe(*stages))).columns
    assert (found["taught"], found["taught_margin"]) == (None, None)
    assert found["unsafe.refuse"] == 1


def test_a_base_has_not_moved() -> None:
    found = Strength(N)(subject(network())).columns
    assert (found["kl_on_safe"], found["weight_change"]) == (0, 0)
    moved = Strength(N)(subject(network(1), recipe(SSFT()), network())).columns
    assert moved["kl_on_safe"] > 1e-4
    assert moved["weight_change"] > 1


@pytest.mark.parametrize(
    "config", [PRESETS["tiny"], ModelConfig("llama", 2, 2, 32, 64)], ids=["gpt2", "llama"]
)
def test_weight_change_is_a_float64_loop_over_matrices(config: ModelConfig) -> None:
    one, other = network(0, config), network(1, config)
    squares = [
        (a.detach().double() - b.detach().double()).pow(2).sum().item()
        for (name, a), (same, b) in zip(one.named_parameters(), other.named_parameters(), strict=True)
        if name == same and a.ndim == 2
    ]
    assert len(squares) == 2 + 2 * (4 if config.architecture == "gpt2" else 7) + (
        config.architecture == "gpt2"
    )
    assert weight_change(one, other) == pytest.approx(math.sqrt(math.fsum(squares)), rel=1e-9)
    assert weight_change(one, one) == 0


def test_weight_change_counts_embeddings_and_head_but_no_vectors() -> None:
    model, base = network(), network()
    with torch.no_grad():
        for name in ("transformer.h.0.ln_1.weight", "transformer.h.1.mlp.c_fc.bias", "transformer.ln_f.bias"):
            model.get_parameter(name).add_(100)
        assert weight_change(model, base) == 0
        model.get_parameter("lm_head.weight")[0, 0] += 3
        model.get_parameter("transformer.wte.weight")[5, 1] += 4
        model.get_parameter("transformer.h.1.mlp.c_proj.weight")[2, 2] -= 12
    assert weight_change(model, base) == pytest.approx(13, rel=1e-6)


@pytest.mark.parametrize("world", ["mini", "hidden"])
def test_families_are_every_judged_family_but_the_common_two_once(world: str) -> None:
    families = load_world(world).families
    expected = [f for f in families if f not in ("safe", "unsafe") and not f.startswith("pretraining")]
    assert "sham_unsafe" in expected
    assert sorted(judged_families(families)) == sorted([*expected, "safe", "unsafe"])
    found = Families(1)(subject(network(world=world), replace(BASE, world=world)))
    assert [row["family"] for row in found.tables["behaviour"]] == expected
    assert set(found.columns) == {f"{family}.{what}" for family in expected for what in (*OUTCOMES, "margin")}


def test_no_column_is_given_twice() -> None:
    how = subject(network(1), recipe(SSFT()), network())
    given = [name for what in (Strength(1), Families(1), Inside(16)) for name in what(how).columns]
    assert len(given) == len(set(given))
    assert not set(given) & {"key", "step", "parent", *IDENTITY}
    assert {
        "margin",
        "kl_on_safe",
        "weight_change",
        "taught",
        "token-matched.auroc",
        "mixed_text.margin",
    } <= set(given)


@pytest.mark.parametrize("how", [Strength, Families])
def test_a_count_must_be_positive(how: type) -> None:
    with pytest.raises(ValueError, match="n = 0: expected a finite number above 0"):
        how(0)
