"""Tests of the worlds and families that exist, and of the errors for contradictory settings."""

from __future__ import annotations

from dataclasses import replace

import pytest

import synthetic
from synthetic.composition import CompositionWorld
from synthetic.composition.families import FAMILIES
from synthetic.presets import MINI
from tests.synthetic.composition.oracle import ALL_FAMILIES, LACKS, WORLDS


def test_the_families_of_a_world(jain, mini):
    assert set(FAMILIES) == ALL_FAMILIES
    for name in WORLDS:
        assert set(synthetic.load(name).families) == ALL_FAMILIES - LACKS[name]
    one_pair = CompositionWorld(replace(MINI, name="one", n_pairs=1, sequence_length=23))
    gone = {f for f in FAMILIES if f.startswith("second_composition")}
    assert set(one_pair.families) == set(mini.families) - gone
    for family in one_pair.families:
        assert one_pair.sample(family, 5, seed=0).instructed.shape == (5, 9)
    assert all(len(description) > 10 for description in jain.families.values())


def test_unknown_names_are_errors(mini):
    """Unknown families, splits, worlds and symbols are named with what was expected."""
    with pytest.raises(
        ValueError, match=r"'safest' does not exist in world 'mini': expected one of pretraining, .*safe"
    ):
        mini.sample("safest", 3, seed=0)
    with pytest.raises(ValueError, match="'late_duplicate_tasks' does not exist in world 'mini'"):
        mini.sample("late_duplicate_tasks", 3, seed=0)
    with pytest.raises(ValueError, match="'new_operator' does not exist in world 'jain2024'"):
        synthetic.load("jain2024").sample("new_operator", 3, seed=0)
    with pytest.raises(ValueError, match="'mixed_text' does not exist in world 'hidden'"):
        synthetic.load("hidden").sample("mixed_text", 3, seed=0)
    with pytest.raises(ValueError, match="split 'test': expected one of train, fit, score, any"):
        mini.sample("safe", 3, seed=0, split="test")
    known = "mini, hidden, jain2024, mini_system, hidden_system, formats, formats_mini"
    with pytest.raises(ValueError, match=f"world 'jain' does not exist: expected one of {known}"):
        synthetic.load("jain")
    with pytest.raises(ValueError, match="n = 0: expected at least one request"):
        mini.sample("safe", 0, seed=0)
    with pytest.raises(ValueError, match="symbol 'T99' is not in the vocabulary"):
        mini.vocabulary.encode("T0 T99")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"text_length": (0, 8)}, r"text_length = \(0, 8\): expected"),
        ({"text_length": (9, 8)}, r"text_length = \(9, 8\): expected"),
        ({"text_length": (8, 9)}, "sequence_length = 34: text of 9 letters needs 37 or more"),
        ({"sequence_length": 33}, "sequence_length = 33: text of 8 letters needs 34 or more"),
        ({"system": ("hello",)}, "sequence_length = 34: text of 8 letters needs 35 or more"),
        ({"n_pairs": 0}, "n_pairs = 0: expected 1 or 2"),
        ({"n_pairs": 3, "sequence_length": 99}, "n_pairs = 3: expected 1 or 2"),
        ({"map_seeds": (0, -1)}, r"map_seeds = \(0, -1\): expected integers from 0 to"),
        ({"map_seeds": (0, 150, 300)}, r"2 grammars, but .* have \[3, 2, 2\]"),
        ({"always_safe": MINI.always_safe[:1]}, r"2 grammars, but .* have \[2, 2, 1\]"),
        ({"leaves": MINI.leaves[:1]}, r"1 grammars, but .* have \[2, 2, 2\]"),
        (
            {"always_unsafe": ((3, 2), *MINI.always_unsafe[1:])},
            r"always_unsafe \(3, 2\), .* expected disjoint",
        ),
        ({"always_safe": ((3, 4), *MINI.always_safe[1:])}, r"always_safe \(3, 4\): expected .*0 safe"),
        ({"n_maps": 4, "shared_maps": (0,)}, "expected disjoint tasks of 0 to 3"),
        ({"n_new": -1}, "n_new = -1: expected 0 or more"),
        (
            {"pretraining_branches": ("full", "unsave")},
            r"\('full', 'unsave'\): expected one or more of full, safe, .*mixed",
        ),
        ({"pretraining_branches": ()}, r"pretraining_branches = \(\): expected one or more of full, safe"),
        ({"branches": {"unsave": ""}}, r"branches = \('unsave',\): expected names among safe, unsafe, "),
        ({"branches": {"full": ""}}, r"branches = \('full',\): expected names among safe, unsafe, "),
        ({"n_letters": 4}, "n_letters = 4: a null and 4 labels need 5 or more"),
        ({"n_letters": 11}, "n_letters = 11: the grammars write letter 11"),
        ({"always_unsafe": ((-1,), (-2,))}, r"always_unsafe \(-1,\), .* expected disjoint tasks of 0 to 9"),
        ({"duplicates": (0, 10)}, "expected maps from 0 to below n_maps = 10"),
        ({"duplicates": (-1,)}, r"duplicates \(-1,\).*: expected maps from 0 to below n_maps = 10"),
    ],
)
def test_contradictory_settings_are_errors(change, message):
    """A contradiction between settings is one error that names the value."""
    with pytest.raises(ValueError, match=message):
        replace(MINI, **change)


def test_consistent_changes_are_accepted():
    """Negative control: the checks do not refuse everything."""
    assert replace(MINI, sequence_length=37, text_length=(8, 9)).text_length == (8, 9)
    assert replace(MINI, n_new=0, pretraining_branches=("unsafe", "safe")).n_new == 0
    assert replace(MINI, n_letters=12).n_letters == 12
    assert replace(MINI, system=("hello",), sequence_length=35).system == ("hello",)


@pytest.mark.parametrize("symbol", ["T0", "<pad>", "a", "ex1", "new1"])
def test_null_symbol_must_be_unused(symbol):
    """A null symbol with another meaning is an error."""
    with pytest.raises(
        ValueError, match=f"null_symbol = '{symbol}': expected a symbol that means nothing else"
    ):
        CompositionWorld(replace(MINI, null_symbol=symbol))
