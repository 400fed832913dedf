"""Is a config read back exactly as it was written, and is every slip in one an error that says what to do?"""

from __future__ import annotations

import copy
import dataclasses
import inspect
import json
from pathlib import Path
from typing import Any, ClassVar, get_args, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from makebreak.configs import from_json, to_json
from makebreak.models import MODEL_SIZES, ModelConfig
from makebreak.recipes import Alignment, Recipe
from makebreak.store import Store
from makebreak.training import (
    DPO,
    SSFT,
    AlignmentData,
    LoRA,
    ModeShares,
    Objective,
    Optimisation,
    Pretraining,
    Unlearning,
    UpdateSubspace,
)

OBJECTIVES = {
    "ssft": SSFT(),
    "sham": SSFT(AlignmentData("sham_safe", "sham_unsafe", safe_share=0.25)),
    "dpo": DPO(AlignmentData(safe_share=0.75), beta=0.3),
    "unlearning": Unlearning(w_preferred=0.7, w_dispreferred=0.0),
}


def recipe(objective: SSFT | DPO | Unlearning | None) -> Recipe:
    alignments = (Alignment(objective, Optimisation(50, 3e-5, precision="bfloat16")),) if objective else ()
    return Recipe("mini", MODEL_SIZES["tiny"], Pretraining(), Optimisation(400, 1e-3), alignments, 0)


FULL = recipe(DPO())


def there_and_back(config: Recipe) -> Recipe:
    return from_json(Recipe, json.loads(json.dumps(to_json(config))))


@pytest.mark.parametrize("objective", [*OBJECTIVES.values(), None], ids=[*OBJECTIVES, "none"])
def test_round_trip(objective: SSFT | DPO | Unlearning | None) -> None:
    config = recipe(objective)
    again = there_and_back(config)
    assert again == config
    assert to_json(again) == to_json(config)
    assert [type(a.objective) for a in again.alignments] == ([type(objective)] if objective else [])
    assert isinstance(again.optimisation.betas, tuple), (
        "a tuple comes back as a tuple, so that configs stay hashable"
    )
    assert hash(again) == hash(config)


@settings(deadline=None, database=None, derandomize=True, max_examples=50)
@given(
    rate=st.floats(1e-300, 1e300),
    share=st.floats(0, 1),
    beta=st.floats(0, exclude_min=True, allow_infinity=False),
    seed=st.integers(0, 2**63),
    world=st.text(),
)
def test_round_trip_of_any_number(rate: float, share: float, beta: float, seed: int, world: str) -> None:
    config = Recipe(
        world,
        MODEL_SIZES["mini-llama"],
        Pretraining(),
        Optimisation(1, rate, warmup_share=share),
        (
            Alignment(SSFT(), Optimisation(1, rate)),
            Alignment(DPO(AlignmentData(safe_share=share), beta), Optimisation(2, rate)),
        ),
        seed,
    )
    assert there_and_back(config) == config


def changed(path: tuple[str | int, ...], value: Any, *, new: str | None = None) -> dict[str, Any]:
    """The JSON of FULL with another value at a path; `new` gives the field another name."""
    data = to_json(FULL)
    inner = data
    for name in path[:-1]:
        inner = inner[name]
    if new is not None:
        del inner[path[-1]]
    inner[new or path[-1]] = value
    return data


@pytest.mark.parametrize(
    ("path", "typo"),
    [
        (("seed",), "seeds"),
        (("model", "d_model"), "dmodel"),
        (("optimisation", "learning_rate"), "learning_rat"),
        (("alignments", 0, "objective", "beta"), "betta"),
        (("alignments", 0, "objective", "data", "safe_share"), "safe_shares"),
    ],
)
def test_an_unknown_field_names_a_near_one(path: tuple[str | int, ...], typo: str) -> None:
    with pytest.raises(ValueError, match=rf"unknown field '{typo}'; did you mean '{path[-1]}'\?"):
        from_json(Recipe, changed(path, 1, new=typo))


def test_an_unknown_field_near_to_nothing_lists_all() -> None:
    with pytest.raises(ValueError, match=r"unknown field 'qqq'; expected one of .*pretraining.*seed"):
        from_json(Recipe, to_json(FULL) | {"qqq": 1})


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("seed",), "0"),
        (("seed",), 0.5),
        (("seed",), True),
        (("seed",), None),
        (("world",), 3),
        (("model", "d_model"), "32"),
        (("model", "architecture"), "gpt3"),
        (("optimisation", "betas"), [0.9]),
        (("optimisation", "betas"), "0.9"),
        (("optimisation", "precision"), "float16"),
        (("pretraining", "modes_start"), [0.5, 0.5]),
        (("pretraining", "family"), {"name": "safe"}),
        (("alignments", 0, "objective", "beta"), "high"),
        (("model",), 3),
        (("alignments", 0, "objective"), True),
    ],
)
def test_a_wrong_type_names_field_and_value(path: tuple[str | int, ...], value: Any) -> None:
    with pytest.raises(ValueError) as raised:  # noqa: PT011
        from_json(Recipe, changed(path, value))
    assert path[-1] in str(raised.value)
    assert repr(value) in str(raised.value)


@pytest.mark.parametrize("path", [("seed",), ("model",), ("optimisation", "steps")])
def test_a_missing_field_is_named(path: tuple[str | int, ...]) -> None:
    data = to_json(FULL)
    inner = data
    for name in path[:-1]:
        inner = inner[name]
    del inner[path[-1]]
    with pytest.raises(ValueError, match=path[-1]):
        from_json(Recipe, data)


def test_a_config_of_another_type_is_refused() -> None:
    with pytest.raises(ValueError, match="config of type 'Optimisation': expected 'Recipe'"):
        from_json(Recipe, to_json(FULL.optimisation))
    with pytest.raises(ValueError, match="'PPO'"):
        from_json(Recipe, changed(("alignments", 0, "objective", "type"), "PPO"))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("optimisation", "warmup_share"), 1.5, "warmup_share = 1.5: expected a probability"),
        (("optimisation", "final_share"), -0.25, "final_share = -0.25: expected a probability"),
        (
            ("alignments", 0, "objective", "data", "safe_share"),
            1.01,
            "safe_share = 1.01: expected a probability",
        ),
        (
            ("pretraining", "modes_end"),
            [-0.5, 1.5, 0.0, 0.0, 0.0, 0.0],
            "modes_end = -0.5: expected a probability",
        ),
        (("pretraining", "modes_start"), [0.5, 0.0, 0.0, 0.0, 0.0, 0.0], "expected six shares that sum to 1"),
        (("optimisation", "steps"), 0, "steps = 0: expected a finite number above 0"),
        (
            ("optimisation", "learning_rate"),
            -1e-3,
            "learning_rate = -0.001: expected a finite number above 0",
        ),
        (("alignments", 0, "objective", "beta"), 0.0, "beta = 0.0: expected a finite number above 0"),
        (("model", "n_heads"), 0, "n_heads = 0: expected a finite number above 0"),
        (
            ("optimisation", "learning_rate"),
            float("inf"),
            "learning_rate = inf: expected a finite number above 0",
        ),
        (
            ("optimisation", "weight_decay"),
            -1.0,
            "weight_decay = -1.0: expected a finite number of at least 0",
        ),
        (
            ("optimisation", "betas"),
            [-0.1, 0.9],
            "betas = (-0.1, 0.9): expected two numbers from 0 to below 1",
        ),
        (("optimisation", "betas"), [0.9, 1.0], "betas = (0.9, 1.0): expected two numbers from 0 to below 1"),
        (("optimisation",), [], "Recipe.optimisation = []: expected"),
        (("model", "n_heads"), 3, "d_model = 32, n_heads = 3"),
        (("model", "d_model"), 33, "d_model = 33, n_heads = 2"),
    ],
)
def test_a_value_out_of_range_is_refused_with_its_value(
    path: tuple[str | int, ...], value: Any, message: str
) -> None:
    with pytest.raises(ValueError) as raised:  # noqa: PT011
        from_json(Recipe, changed(path, value))
    assert message in str(raised.value)


def test_ends_of_the_ranges_are_allowed() -> None:
    Optimisation(1, 1e-9, warmup_share=0.0, final_share=1.0)
    AlignmentData(safe_share=0.0)
    AlignmentData(safe_share=1.0)
    with pytest.raises(ValueError, match="nan"):
        AlignmentData(safe_share=float("nan"))
    ModelConfig(d_model=64, n_heads=32)
    with pytest.raises(ValueError, match="d_model = 64, n_heads = 64: expected heads of equal, even width"):
        ModelConfig(d_model=64, n_heads=64)


OTHER: dict[str, Any] = {
    "world": "jain2024",
    "seed": 1,
    "architecture": "llama",
    "n_layers": 3,
    "n_heads": 4,
    "d_model": 64,
    "d_mlp": 64,
    "family": "pretraining_without_null",
    "modes_start": ModeShares(0.4, 0.2, 0.2, 0.2, 0.0, 0.0),
    "modes_end": ModeShares(0.2, 0.1, 0.3, 0.4, 0.0, 0.0),
    "steps": 401,
    "learning_rate": 1.0000000000000002e-3,
    "batch_size": 64,
    "warmup_share": 0.2,
    "final_share": 0.2,
    "betas": (0.9, 0.96),
    "weight_decay": 0.0,
    "clip": 2.0,
    "precision": "float32",
    "checkpoints": 3,
    "extra_checkpoints": (5, 10),
    "decay_end": 0.7,
    "unsafe_second": "second_composition_unsafe",
    "second_share": 0.3,
    "mean_over": "requests",
    "lora": LoRA(),
    "constraint": UpdateSubspace("column"),
    "answer": "instructed",
    "safe": "sham_safe",
    "unsafe": "sham_unsafe",
    "safe_share": 0.25,
    "beta": 0.2,
    "nll": 0.5,
    "name": "stacked",
    "device": "cuda",
}


def variants(config: Any) -> list[Any]:
    """The config with each of its innermost fields changed, one at a time."""
    found = []
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            others = variants(value)
        elif field.name == "alignments":
            others = [(other,) for other in variants(value[0])]
        else:
            others = [OTHER[field.name]]
        if field.name == "precision" and value == "float32":
            others = ["bfloat16"]
        found += [dataclasses.replace(config, **{field.name: other}) for other in others]
    return found


def test_the_key_of_a_recipe_changes_with_every_field(tmp_path: Path) -> None:
    store = Store(tmp_path)
    twin = copy.deepcopy(FULL)
    (stage,) = FULL.alignments
    other = [(dataclasses.replace(stage, objective=SSFT()),), (stage, stage)]
    recipes = [FULL, FULL.parent, *[dataclasses.replace(FULL, alignments=a) for a in other], *variants(FULL)]
    assert len(recipes) > 30
    keys = [store.build("x", revision=1, config=to_json(r), make=lambda folder: None).name for r in recipes]
    assert len(set(keys)) == len(keys)
    assert store.build("x", revision=1, config=to_json(twin), make=lambda folder: None).name == keys[0]


@dataclasses.dataclass(frozen=True)
class OldSettings:
    n: int
    held: bool = True


@dataclasses.dataclass(frozen=True)
class RenamedSettings:
    tag: ClassVar[str] = "OldSettings"
    n_tokens: int = dataclasses.field(metadata={"key": "n"})
    share_position: bool = dataclasses.field(default=True, metadata={"key": "held"})


def test_a_renamed_config_keeps_its_json() -> None:
    """A class and a field may be renamed: what is written and read stays what it was."""
    assert to_json(RenamedSettings(3, share_position=False)) == to_json(OldSettings(3, held=False))
    assert from_json(RenamedSettings, to_json(OldSettings(5))) == RenamedSettings(5)
    with pytest.raises(ValueError, match="OldSettings: unknown field 'share_position'"):
        from_json(RenamedSettings, {"n": 1, "share_position": True})


def subclasses(cls: type) -> list[type]:
    """All subclasses that are not abstract."""
    found = [c for direct in cls.__subclasses__() for c in [direct, *subclasses(direct)]]
    return [c for c in found if dataclasses.is_dataclass(c) and not inspect.isabstract(c)]


def test_every_part_of_a_recipe_has_an_explicit_tag() -> None:
    """A part without a tag of its own would change its key with its class name."""
    objectives = [c for c in subclasses(Objective) if c.__module__.startswith("makebreak.")]
    assert len({c.tag for c in objectives}) == len(objectives) >= 12
    classes: list[type] = [Recipe]
    for cls in classes:
        assert "tag" in vars(cls), f"{cls.__name__} has no tag"
        for hint in get_type_hints(cls).values():
            parts = [hint, *get_args(hint)]
            parts += objectives if hint is Objective else []
            classes += [c for c in parts if dataclasses.is_dataclass(c) and c not in classes]
    assert len(classes) > 10
    assert set(objectives) < set(classes)
