"""Tests of the grammars and identities of texts that every synthetic world gives to measures."""

from __future__ import annotations

import numpy as np
import pytest

import synthetic

N = 300


@pytest.mark.parametrize("name", ["mini", "hidden", "mini_system", "formats_mini", "formats_templates"])
def test_text_ids_identify_texts(name: str) -> None:
    """No text, by group and identity, is in two splits."""
    world = synthetic.load(name)
    assert isinstance(world, synthetic.World)
    parts = {split: world.sample("safe", N, seed=0, split=split) for split in ("train", "fit", "score")}
    texts = {}
    for split, requests in parts.items():
        groups, ids = world.groups(requests), world.text_ids(requests)
        assert groups.shape == (N,)
        assert groups.dtype.kind == "i"
        assert len(ids) == N
        texts[split] = set(map(tuple, np.column_stack([groups, ids]).tolist()))
    assert not texts["train"] & texts["fit"]
    assert not texts["fit"] & texts["score"]


@pytest.mark.parametrize("name", [*synthetic.COMPOSITION_CONFIGS, *synthetic.FORMATS_CONFIGS])
def test_columns_of_truth_are_declared(name: str) -> None:
    """The requests of every family have exactly the columns that the world describes, in that order."""
    world = synthetic.load(name)
    for family in world.families:
        requests = world.sample(family, 2, seed=0)
        assert list(requests.truth) == list(world.columns), family
        assert all(len(column) == 2 for column in requests.truth.values())
    assert all(description.strip() for description in world.columns.values())


def test_groups_are_the_grammars() -> None:
    """Both grammars of `mini` occur; a world of formats has one group."""
    requests = synthetic.load("mini").sample("safe", N, seed=1)
    groups = synthetic.load("mini").groups(requests)
    assert set(groups.tolist()) == {0, 1}
    assert (groups == requests.truth["grammar"]).all()
    formats = synthetic.load("formats")
    assert not formats.groups(formats.sample("safe", N, seed=1)).any()


def test_text_ids_do_not_depend_on_the_format() -> None:
    """The same contents have the same identities in every format, though each format shows something else."""
    world = synthetic.load("formats")
    ids = {}
    for name in world.config.formats:
        requests = world.sample(f"{name}_safe", N, seed=0)
        ids[name] = world.text_ids(requests)
        expected = world.content(requests).text(world.symbols)
        assert np.array_equal(ids[name], expected)
    first, *others = ids.values()
    assert all(np.array_equal(first, other) for other in others)
    shown = {
        name: world.sample(f"{name}_safe", N, seed=0).truth["text"].tobytes() for name in world.config.formats
    }
    assert len(set(shown.values())) > 1
