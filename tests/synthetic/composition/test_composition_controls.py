"""Tests of the controls: remapped answers, new operators, pretraining without unsafe requests, labels."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest

import synthetic
from synthetic.composition import CompositionWorld
from synthetic.composition.drawing import outputs_and_reasons
from synthetic.composition.safety import REASONS
from synthetic.presets import JAIN2024, MINI
from tests.synthetic.composition.oracle import (
    ALL_FAMILIES,
    BRANCHES,
    LACKS,
    SECOND,
    UNSAFE_TEXT,
    WORLDS,
    everywhere,
    sampled,
    slots_of,
    slow_map,
)

with_new = pytest.mark.parametrize("name", [name for name in WORLDS if "new_operator" not in LACKS[name]])


def test_remap_changes_only_the_answer(world):
    """Remapped requests equal the unsafe ones but for the instructed answer."""
    name = world.config.name
    unsafe, remapped = sampled(name, "unsafe"), sampled(name, "remapped_unsafe")
    for column in ("prompt", "prompt_length", "refused", "judged"):
        np.testing.assert_array_equal(getattr(remapped, column), getattr(unsafe, column))
    for column in ("grammar", "branch", "text", "tasks", "reason", "label"):
        np.testing.assert_array_equal(remapped.truth[column], unsafe.truth[column])
    assert (remapped.instructed != unsafe.instructed).any(axis=1).all()
    assert unsafe.unsafe.all()
    assert not remapped.unsafe.any()


def test_remapped_answer_is_one_safe_tasks(world):
    """One task of each grammar, written out here; never the true answer or the null."""
    name, remapped = world.config.name, sampled(world.config.name, "remapped_unsafe")
    truth, true = remapped.truth, sampled(name, "unsafe").truth["outputs"]
    for i in range(len(remapped)):
        g, length = int(truth["grammar"][i]), int(truth["length"][i])
        text, answer = truth["text"][i, :length].tolist(), truth["outputs"][i, 0, :length].tolist()
        assert answer == [slow_map(name, g, (3, 1, 6, 4)[g])[x] for x in text]
        assert answer != true[i, 0, :length].tolist()
        assert set(answer) != {world.null_output}


def test_remapped_answer_differs_from_true_one(hidden):
    """Two tasks may send a few letters where the safe one does, and a text of those alone does occur."""
    unsafe, remapped = (
        hidden.sample(f, 20, seed=4, start=10_860, split="any") for f in ("unsafe", "remapped_unsafe")
    )
    assert set(unsafe.truth["text"][8]) == {5, 6, 7, 8, 10}
    again = (remapped.prompt != unsafe.prompt).any(axis=1)
    assert np.flatnonzero(again).tolist() == [8]
    true = outputs_and_reasons(hidden, remapped.truth, remap=False)
    assert (remapped.truth["outputs"][:, 0] != true["outputs"][:, 0]).any(axis=1).all()


def test_every_unsafe_pair_is_remapped(world):
    """Both are unsafe: the second output has the safe task once more."""
    name = world.config.name
    truth = sampled(name, "remapped_unsafe").truth
    assert (truth["reason"].reshape(-1, 2, 2) > 0).any(axis=2).all()
    for i in range(len(truth["grammar"])):
        g, length = int(truth["grammar"][i]), int(truth["length"][i])
        first, second = truth["outputs"][i, :, :length].tolist()
        assert second == [slow_map(name, g, (3, 1, 6, 4)[g])[x] for x in first]


def test_remap_needs_another_safe_task():
    """A world whose only always-safe task is the identity has no remap control."""
    assert "remapped_unsafe" in synthetic.load("mini").families
    config = replace(MINI, always_safe=((0,), (0, 1, 2)))
    assert "remapped_unsafe" not in CompositionWorld(config).families


@with_new
def test_new_operator_only_in_its_family(name):
    """No other family holds a new operator."""
    world = synthetic.load(name)
    shown = {}
    for family in ALL_FAMILIES - LACKS[name]:
        shown[family] = {task for tasks in slots_of(world, sampled(name, family)) for task in tasks}
    assert [family for family, tasks in shown.items() if "new1" in tasks] == ["new_operator"]
    requests = world.sample("pretraining", 12_000, seed=3)
    assert not (requests.prompt == world.vocabulary.id("new1")).any()
    assert not (requests.instructed == world.vocabulary.id("new1")).any()


@with_new
def test_new_operator_is_safe_and_in_first_pair(name):
    """Each request holds one new operator, in the first pair, and is safe."""
    requests = sampled(name, "new_operator")
    new = np.array([[task == "new1" for task in tasks] for tasks in slots_of(synthetic.load(name), requests)])
    assert (new[:, :2].sum(axis=1) == 1).all()
    assert not new[:, 2:].any()
    assert abs(new[:, 0].mean() - 0.5) <= 5 * 0.5 / np.sqrt(len(new))
    assert not requests.truth["reason"].any()


def test_new_operators_have_their_own_bijections(jain, mini, hidden):
    """New operators are bijections unlike all others and shared by the grammars."""
    more = CompositionWorld(replace(JAIN2024, name="more", n_new=2))
    for world in (mini, hidden, more):
        n = world.config.n_new
        maps, new = world.maps[:, :-n], world.maps[:, -n:]
        assert (np.sort(new, axis=-1) == np.arange(world.config.n_letters)).all()
        assert (new == new[:1]).all()
        tables = [tuple(row) for row in new[0]]
        assert len(set(tables)) == n
        assert not set(tables) & {tuple(row) for row in maps.reshape(-1, world.config.n_letters)}
        assert not world.safety_classes[:, -n:].any()
    assert (more.maps[1:, 1:10] != more.maps[:1, 1:10]).any(), (
        "negative twin: other operators are each grammar's own"
    )
    assert more.vocabulary.symbols == (*jain.vocabulary.symbols, "new1", "new2")
    np.testing.assert_array_equal(more.maps[:, :-2], jain.maps)


def test_pretraining_without_unsafe_has_no_unsafe_task(world):
    """No request holds an unsafe task, for any reason; positive control: those of pretraining often do."""
    name, safe = world.config.name, {REASONS.index("safe"), REASONS.index("ex token")}
    clean, usual = (
        sampled(name, f, 3000).truth["reason"] for f in ("pretraining_without_unsafe", "pretraining")
    )
    assert set(np.unique(clean)) == safe
    assert (~np.isin(usual, list(safe))).any(axis=1).mean() > 0.3
    branches = sampled(name, "pretraining_without_unsafe", 3000).truth["branch"]
    assert {BRANCHES[b] for b in np.unique(branches)} == {"safe", "unsafe"}, "it knows the text of both"


def test_pretraining_without_unsafe_has_safe_tasks(world):
    """But for the 1 % that ask for the null."""
    name = world.config.name
    clean, safe = (sampled(name, family, split="any") for family in ("pretraining_without_unsafe", "safe"))
    ex = (clean.truth["tasks"] >= world.maps.shape[1]).any(axis=1)
    assert 0 < ex.sum() < 0.05 * len(ex)
    np.testing.assert_array_equal(clean.prompt[~ex], safe.prompt[~ex])
    np.testing.assert_array_equal(clean.instructed[~ex], safe.instructed[~ex])


@everywhere
def test_label_identifies_grammar_and_safety(name, family):
    """One letter for each, none of them the null."""
    world, truth = synthetic.load(name), sampled(name, family).truth
    unsafe = np.isin(truth["branch"], [BRANCHES.index(b) for b in UNSAFE_TEXT])
    named = set(zip(truth["grammar"].tolist(), unsafe.tolist(), strict=True))
    assert len(
        set(zip(truth["grammar"].tolist(), unsafe.tolist(), truth["label"].tolist(), strict=True))
    ) == len(named)
    assert len(set(truth["label"].tolist())) == len(named)
    assert np.isin(truth["label"], world.letter_ids).all()
    assert world.null_id not in truth["label"]


def test_world_of_the_paper_is_unchanged(jain):
    """Every column of every family, and the tables, when results were first stored (without `label`)."""
    later = {"pretraining_without_unsafe", "remapped_unsafe", *SECOND}
    whole = hashlib.sha256()
    for family in sorted(set(jain.families) - later):
        for split in ("train", "score"):
            columns = jain.sample(family, 20, seed=7, split=split).columns()
            del columns["truth.label"]
            whole.update(hashlib.sha256(json.dumps(columns, sort_keys=True).encode()).hexdigest().encode())
    assert whole.hexdigest() == "73d66d40cc5dc74c6207ae04ca9ad81fa0db468b9e3fbb0e5851e9a29d06d928"
    tables = [
        jain.vocabulary.symbols,
        *(t.tolist() for t in (jain.maps, jain.safety_classes, jain.sham_classes)),
    ]
    tables += [jain.task_ids.tolist(), jain.sequence_length, int(jain.null_id)]
    assert hashlib.sha256(json.dumps(tables).encode()).hexdigest()[:16] == "1f7d89c1f617f260"
