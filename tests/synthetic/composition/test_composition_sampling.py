"""Tests of sampling: batches, splits, correct answers that are not null, round trips through columns."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import datasets
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import synthetic
from synthetic import sampling
from synthetic.composition import CompositionWorld
from synthetic.presets import MINI
from synthetic.sampling import split_indices
from synthetic.types import Requests
from tests.synthetic.composition.oracle import (
    BRANCHES,
    WITH_NULL,
    WORLD_FAMILIES,
    assert_equal,
    everywhere,
    sampled,
)


@settings(deadline=None, database=None, derandomize=True, max_examples=15)
@given(
    which=st.sampled_from(WORLD_FAMILIES),
    seed=st.integers(0, 10**6),
    start=st.integers(0, 10**6),
    cuts=st.lists(st.integers(1, 29), unique=True, max_size=3),
    split=st.sampled_from(["train", "fit", "score", "any"]),
)
def test_requests_do_not_depend_on_the_batch(which, seed, start, cuts, split):
    """A request is the same in whatever batch it is sampled."""
    name, family = which
    world = synthetic.load(name)
    whole = world.sample(family, 30, seed=seed, start=start, split=split)
    edges = [0, *sorted(cuts), 30]
    for low, high in pairwise(edges):
        part = world.sample(family, high - low, seed=seed, start=start + low, split=split)
        assert_equal(part, whole[low:high])
        assert_equal(part, whole[np.arange(low, high)])


def test_another_seed_gives_other_requests(world):
    """Negative control of the independence of the batch."""
    one, other = sampled(world.config.name, "safe", 50, 5), sampled(world.config.name, "safe", 50, 6)
    same = (one.prompt == other.prompt).all(axis=1)
    assert not same.any()


CONSTANT = "S -> A; A -> " + " | ".join(",".join([str(letter)] * 8) for letter in range(12))


def test_no_correct_answer_is_all_null():
    """In a world of texts of one repeated letter, one answer in twelve would be the null."""
    leaves = ("", "")
    constant = replace(
        MINI, name="constant", full=CONSTANT, branches=dict.fromkeys(BRANCHES[1:], ""), leaves=leaves
    )
    world = CompositionWorld(constant)
    for family in world.families:
        requests = world.sample(family, 400, seed=2, split="any")
        pair = int(family.startswith("second_composition"))
        null = (requests.truth["outputs"][:, pair] == 0).all(axis=1)
        if family.startswith("pretraining"):
            assert null.any(), "negative twin: without rejection the null does occur"
        else:
            assert not null.any()
            assert (requests.truth["outputs"][:, 1 - pair] == 0).all(axis=1).any()


@pytest.mark.parametrize(("name", "family"), [w for w in WORLD_FAMILIES if w[1] not in WITH_NULL])
def test_no_answer_is_all_null_in_shipped_worlds(name, family):
    """Only pretraining, in 1 % of its requests, with or without unsafe ones, asks for the null on purpose."""
    requests = sampled(name, family)
    pair = int(family.startswith("second_composition"))
    present = requests.truth["text"] >= 0
    assert not ((requests.truth["outputs"][:, pair] == 0) | ~present).all(axis=1).any()


def test_no_acceptable_draw_is_an_error(monkeypatch):
    """The error names the family, the split and the number of requests."""
    monkeypatch.setattr(sampling, "MAX_ATTEMPTS", 5)
    only = replace(MINI, full="S -> A; A -> 1,1,1,1,1,1,1,1", branches={"safe": ""}, leaves=("", ""))
    one = np.ones((2, 8), dtype=np.int64)
    empty = ({0, 1, 2} - set(split_indices(np.arange(2), one).tolist())).pop()
    split = ("train", "fit", "score")[empty]
    with pytest.raises(ValueError, match=f"'safe_on_safe_branch', split '{split}': 3 of 3 requests found no"):
        CompositionWorld(only).sample("safe_on_safe_branch", 3, seed=0, split=split)


def texts(requests: Requests) -> set[tuple[int, ...]]:
    return {
        (int(g), *t) for g, t in zip(requests.truth["grammar"], requests.truth["text"].tolist(), strict=True)
    }


def test_splits_are_disjoint_in_all_families(world):
    """No text is in two splits, whatever the families."""
    name = world.config.name
    families = ("pretraining", "unsafe", "context_unsafe")
    texts_by_split = {
        s: set().union(*(texts(sampled(name, f, 100, 8, s)) for f in families))
        for s in ("train", "fit", "score")
    }
    assert not texts_by_split["train"] & texts_by_split["fit"]
    assert not texts_by_split["train"] & texts_by_split["score"]
    assert not texts_by_split["fit"] & texts_by_split["score"]
    again = texts(sampled(name, "safe", 100, 8, "any"))
    assert again & texts_by_split["train"], (
        "negative twin: texts without regard to split meet the training texts"
    )


def test_split_shares(world):
    """90, 5 and 5 % of distinct texts, within five standard errors."""
    name = world.config.name
    distinct = np.array(sorted(texts(sampled(name, "pretraining_without_null", 8000, 9, "any"))))
    assert len(distinct) > 500
    counts = np.bincount(split_indices(distinct[:, 0], distinct[:, 1:]), minlength=3) / len(distinct)
    for share, p in zip(counts, (0.9, 0.05, 0.05), strict=True):
        assert abs(share - p) <= 5 * np.sqrt(p * (1 - p) / len(distinct))


def test_split_depends_on_the_grammar():
    """The same text of another grammar may be in another split."""
    text = np.arange(8)[None].repeat(400, axis=0)
    assert set(split_indices(np.arange(400), text).tolist()) == {0, 1, 2}


@everywhere
def test_round_trip_through_a_data_set(name, family):
    requests = sampled(name, family, 40)
    data = datasets.Dataset.from_dict(requests.columns())
    assert len(data) == 40
    assert_equal(Requests.from_columns(data[:]), requests)
    assert_equal(Requests.from_columns(data[10:20]), requests[10:20])


def test_an_empty_dataset_is_an_error(mini):
    """A data set without rows is an error."""
    columns = {k: v[:0] for k, v in sampled("mini", "safe", 40).columns().items()}
    with pytest.raises(ValueError, match=r"without rows.*expected at least one"):
        Requests.from_columns(columns)
