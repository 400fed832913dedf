"""Tests of the tasks of each family and of their frequencies."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

import synthetic
from tests.synthetic.composition.oracle import (
    ALWAYS,
    BRANCHES,
    CONTEXT,
    EX,
    N_TRAINED,
    NEVER,
    SAFE_FAMILIES,
    SECOND,
    WITH_NULL,
    WORLD_FAMILIES,
    N,
    allowed_tokens,
    everywhere,
    sampled,
    slots_of,
)


@everywhere
def test_unsafe_tasks_are_in_the_judged_pair(name, family):
    """Safe families hold no unsafe task, unsafe families at least one in the judged pair."""
    requests = sampled(name, family)
    unsafe = requests.truth["reason"] > 0
    pair = int(family.startswith("second_composition"))
    if family.startswith("pretraining"):
        assert not requests.unsafe.any()
    elif "sham" in family:
        assert (requests.unsafe == family.endswith("sham_unsafe")).all()
        assert unsafe.any(axis=1).any()
        assert not unsafe.any(axis=1).all(), "the partition of the control has nothing to do with safety"
    elif family in SAFE_FAMILIES:
        assert not requests.unsafe.any()
        assert not unsafe.any()
    else:
        assert (requests.unsafe == ("remapped" not in family)).all()
        assert unsafe[:, 2 * pair : 2 * pair + 2].any(axis=1).all()
        if pair:
            assert not unsafe[:, :2].any()
            if family in SECOND:
                assert (requests.truth["tasks"][:, :2] == 0).all()
            else:
                assert (unsafe[:, 2:].sum(axis=1) == 1).all()


@pytest.mark.parametrize(("name", "family"), [w for w in WORLD_FAMILIES if "sham" not in w[1]])
def test_each_family_uses_exactly_its_tokens(name, family):
    """Each family uses all of its task tokens and no others."""
    world, requests = synthetic.load(name), sampled(name, family)
    tokens_of_branch: dict[tuple[int, str], set[str]] = {}
    for g, b, tasks in zip(
        requests.truth["grammar"], requests.truth["branch"], slots_of(world, requests), strict=True
    ):
        tokens_of_branch.setdefault((int(g), BRANCHES[b]), set()).update(tasks)
    assert set().union(*tokens_of_branch.values()) & EX == (
        EX if family in WITH_NULL else set()
    )  # rare: of all together
    for (g, branch), tokens in tokens_of_branch.items():
        assert tokens - EX == allowed_tokens(name, family, g, branch)


def test_sham_partition(world):
    original = world.sham_classes[:, : world.config.n_maps]
    assert (original[:, 0] == 0).all()
    assert (original.sum(axis=1) == (world.config.n_maps - 1) // 2).all()
    assert len({tuple(row) for row in original}) > 1
    for sham, family in ((0, "sham_safe"), (1, "sham_unsafe")):
        truth = sampled(world.config.name, family).truth
        kind = world.sham_classes[truth["grammar"][:, None], truth["tasks"]]
        assert (truth["tasks"] < world.config.n_maps).all()
        assert (kind[truth["tasks"] > 0] == sham).all()
        assert (kind[:, :2] == sham).any(axis=1).all()


@pytest.mark.parametrize("branch", ["safe", "unsafe"])
def test_pair_rule_of_unsafe_counterparts(world, branch):
    """With one identity in a pair only the other task is replaced, else both are; the text is the same."""
    safe = sampled(world.config.name, f"safe_on_{branch}_branch")
    unsafe = sampled(world.config.name, f"unsafe_on_{branch}_branch")
    assert (safe.truth["text"] == unsafe.truth["text"]).all()
    before, after = (r.truth["tasks"].reshape(-1, 2) for r in (safe, unsafe))
    bad = (unsafe.truth["reason"] > 0).reshape(-1, 2)
    one = (before == 0).sum(axis=1) == 1
    assert 0 < one.sum() < len(one)
    assert (bad[one] == (before[one] != 0)).all()
    assert (after[one][before[one] == 0] == 0).all()
    assert bad[~one].all()


@pytest.mark.parametrize("branch", ["safe", "unsafe"])
def test_unsafe_tasks_are_drawn_uniformly(world, branch, goodness_z):
    truth = sampled(world.config.name, f"unsafe_on_{branch}_branch").truth
    for g in range(world.n_grammars):
        tasks = truth["tasks"][(truth["grammar"] == g)]
        counts = np.unique(tasks[tasks > 0], return_counts=True)[1]
        expected = len(ALWAYS[g]) + (branch == "unsafe") * len(CONTEXT[g])
        assert len(counts) == expected
        assert abs(goodness_z(counts, np.full(expected, counts.sum() / expected))) < 5


@pytest.mark.parametrize("branch", ["safe", "unsafe"])
def test_identity_is_oversampled_in_safe_tasks(world, branch):
    """Half the requests: four uniform of k; the other half: the identity and three uniform, shuffled."""
    truth = sampled(world.config.name, f"safe_on_{branch}_branch").truth
    for g in range(world.n_grammars):
        tasks = truth["tasks"][truth["grammar"] == g]
        k = len(NEVER[g]) + (branch == "safe") * len(CONTEXT[g])
        for task in np.unique(tasks):
            p = 0.5 / k + 0.5 * (0.25 * (task == 0) + 0.75 / k)
            per_slot = (tasks == task).mean(axis=0)  # each slot alone: slots of a request are not independent
            assert (abs(per_slot - p) <= 5 * np.sqrt(p * (1 - p) / len(tasks))).all()


@pytest.mark.parametrize("branch", ["safe", "unsafe"])
def test_competing_pairs(world, branch):
    truth = sampled(world.config.name, f"competing_tasks_{branch}_branch").truth
    bad = (truth["reason"] > 0).reshape(-1, 2)
    assert (bad.sum(axis=1) == 1).all()
    assert (truth["tasks"] > 0).all()
    assert abs(bad[:, 0].mean() - 0.5) <= 5 * 0.5 / np.sqrt(len(bad))


def test_duplicate_tasks_are_not_in_safety_tuning(world):
    """Each request holds a duplicate of an unsafe task, and no token of safety tuning."""
    requests = sampled(world.config.name, "duplicate_tasks")
    unsafe, identity = (
        (("T12", "T13"), ("T10", "T11")) if world.config.name == "jain2024" else (("T11",), ("T10",))
    )
    for tasks in slots_of(world, requests):
        assert any(t in unsafe for t in tasks[:2])
        assert all(t in unsafe + identity for t in tasks)


def test_late_duplicates_are_paired_with_identity(jain):
    """Each pair holds one late duplicate and the identity."""
    tuples = slots_of(jain, sampled("jain2024", "late_duplicate_tasks"))
    pairs = [tuple(sorted(t[i : i + 2])) for t in tuples for i in (0, 2)]
    assert set(pairs) == {("T0", f"dup{i}") for i in (2, 3, 4, 5)}
    assert abs(np.mean([t[0] == "T0" for t in tuples]) - 0.5) <= 5 * 0.5 / np.sqrt(N)


@pytest.mark.parametrize("split", ["train", "fit", "score"])
def test_token_matched_requests_differ_in_text_only(world, split):
    """Context requests of one number share grammar and tasks, not text."""
    safe, unsafe = (
        sampled(world.config.name, f"context_{kind}", 200, split=split) for kind in ("safe", "unsafe")
    )
    for column in ("grammar", "tasks"):
        assert (safe.truth[column] == unsafe.truth[column]).all()
    assert (safe.truth["text"] != unsafe.truth["text"]).any(axis=1).all()


def test_context_families_have_the_same_tasks(world, independence_z):
    """Tasks of the two context families have the same distribution."""
    name = world.config.name
    safe, unsafe = (sampled(name, f"context_{b}", split="any") for b in ("safe", "unsafe"))
    assert (safe.truth["tasks"] == unsafe.truth["tasks"]).all()
    assert (safe.truth["grammar"] == unsafe.truth["grammar"]).all()
    assert not (safe.truth["text"] == unsafe.truth["text"]).all(axis=1).any()
    rows = []
    for branch, seed in (("safe", 6), ("unsafe", 7)):
        truth = sampled(name, f"context_{branch}", seed=seed).truth
        code = truth["grammar"] * 400 + truth["tasks"][:, 0] * 20 + truth["tasks"][:, 1]
        rows.append(np.bincount(code, minlength=1600))
    table = np.array(rows)
    assert abs(independence_z(table[:, table.sum(axis=0) > 0])) < 5


def test_task_comparison_detects_unmatched_families(world, independence_z):
    """Negative control: standard safe and unsafe requests differ in their tasks."""
    rows = [
        np.bincount(sampled(world.config.name, f"{kind}_on_unsafe_branch").truth["tasks"][:, 0], minlength=10)
        for kind in ("safe", "unsafe")
    ]
    table = np.array(rows)
    assert independence_z(table[:, table.sum(axis=0) > 0]) > 5


def test_token_frequencies_of_pretraining(world):
    """Reference §2.1 with the identity's own duplicates, {T0, T10, T11}, boosted in half of the requests."""
    n = 12_000
    requests = world.sample("pretraining", n, seed=3)
    identity = ("T0", "T10", "T11") if world.config.name == "jain2024" else ("T0", "T10")
    n_tasks = N_TRAINED[world.config.name]
    for slot, column in enumerate(zip(*slots_of(world, requests), strict=True)):
        counts = Counter(column)
        assert sum(counts.values()) == n
        assert set(counts) <= {f"T{j}" for j in range(n_tasks)} | {"ex1", "ex2"}
        for token in (*(f"T{j}" for j in range(n_tasks)), "ex1", "ex2"):
            p = 0.5 / n_tasks + 0.5 * (0.75 / n_tasks + 0.25 * (token in identity) / len(identity))
            p = 0.01 / 8 if token.startswith("ex") else p * (1 - 0.01 / 4)
            assert abs(counts[token] / n - p) <= 5 * np.sqrt(p * (1 - p) / n), (slot, token)


def test_one_percent_of_pretraining_is_null(world):
    """One per cent of pretraining's requests ask for the null."""
    n = 12_000
    for family, share in (
        ("pretraining", 0.01),
        ("pretraining_without_unsafe", 0.01),
        ("pretraining_without_null", 0.0),
    ):
        tasks = slots_of(world, world.sample(family, n, seed=4))
        ex = np.array([sum(t.startswith("ex") for t in row) for row in tasks])
        assert set(ex.tolist()) <= {0, 1}
        assert abs(ex.mean() - share) <= 5 * np.sqrt(share * (1 - share) / n)
