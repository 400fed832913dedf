"""Is every request what its family promises: tasks, text, answers, why it is unsafe, layout, split?

The oracle reads the symbols of a prompt, one request and one letter at a time, with the tables of Jain et al. 2024
(reference §1.3, §1.5, §1.8, §2) written out here.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import cache
from itertools import chain, pairwise

import datasets
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import synthetic
from synthetic import composition
from synthetic.composition import CompositionWorld
from synthetic.families import FAMILIES, REASONS
from synthetic.grammar import parse
from synthetic.presets import MINI
from synthetic.world import Requests, split_of

N = 600
ALWAYS = {"jain2024": ((1, 2), (3, 4), (8, 9), (1, 5)), "mini": ((1, 2), (3, 4), (8, 9), (1, 5))}
NEVER = {
    "jain2024": ((0, 3, 4), (0, 1, 2), (0, 6, 7), (0, 4, 7)),
    "mini": ((0, 3, 4), (0, 1, 2), (0, 6, 7), (0, 4, 7)),
}
CONTEXT = {
    "jain2024": ((5, 6, 7, 8, 9), (5, 6, 7, 8, 9), (1, 2, 3, 4, 5), (2, 3, 6, 8, 9)),
    "mini": ((5, 6, 7, 8, 9), (5, 6, 7, 8, 9), (1, 2, 3, 4, 5), (2, 3, 6, 8, 9)),
}
TWINS = {
    "jain2024": {"T10": 0, "T11": 0, "T12": 1, "T13": 1, "T14": 2, "T15": 2}
    | {"dup1": 0, "dup2": 5, "dup3": 6, "dup4": 7, "dup5": 8},
    "mini": {"T10": 0, "T11": 1},
}
BRANCHES = ("full", "safe", "unsafe", "unsafe_long", "heldout", "mixed")
UNSAFE_TEXT = ("unsafe", "unsafe_long", "heldout")
ON_BRANCH = {
    "safe_on_safe_branch": "safe",
    "unsafe_on_safe_branch": "safe",
    "safe_on_unsafe_branch": "unsafe",
    "unsafe_on_unsafe_branch": "unsafe",
    "context_safe": "safe",
    "context_unsafe": "unsafe",
    "unsafe_long": "unsafe_long",
    "heldout_text": "heldout",
    "mixed_text": "mixed",
    "competing_tasks_safe_branch": "safe",
    "competing_tasks_unsafe_branch": "unsafe",
    "duplicate_tasks": "full",
    "late_duplicate_tasks": "unsafe",
    "second_composition_safe_branch": "safe",
    "second_composition_unsafe_branch": "unsafe",
    "pretraining": "full",
    "pretraining_without_null": "full",
}
BOTH = ("safe", "unsafe", "sham_safe", "sham_unsafe", "second_composition_safe")
SAFE_FAMILIES = (
    "safe",
    "safe_on_safe_branch",
    "safe_on_unsafe_branch",
    "context_safe",
    "sham_safe",
    "second_composition_safe",
)
WORLD_FAMILIES = [
    (name, family)
    for name in ("mini", "jain2024")
    for family in (*ON_BRANCH, *BOTH)
    if (name, family) != ("mini", "late_duplicate_tasks")
]
everywhere = pytest.mark.parametrize(("name", "family"), WORLD_FAMILIES)


@cache
def sampled(name: str, family: str, n: int = N, seed: int = 5, split: str = "train") -> Requests:
    return synthetic.load(name).sample(family, n, seed=seed, split=split)


def slots_of(world: CompositionWorld, requests: Requests) -> list[list[str]]:
    """Task symbols of each request, read from its prompt."""
    symbols = world.vocabulary.symbols
    return [[symbols[t] for t in prompt[1:5]] for prompt in requests.prompt]


def number(name: str, task: str) -> int:
    """Which map a task symbol stands for."""
    return TWINS[name][task] if task in TWINS[name] else int(task[1:])


@cache
def slow_map(name: str, g: int, j: int) -> list[int]:
    letters, seed = {"jain2024": (30, 150 * g), "mini": (12, 0)}[name]
    return list(range(letters)) if j == 0 else np.random.RandomState(seed + j - 1).permutation(letters).tolist()


def slow_outputs(name: str, g: int, tasks: list[str], text: list[int]) -> list[list[int]]:
    """The outputs to be written: an ex token makes its pair null, or the second letter, and the last."""
    outputs = []
    for first in (0, 2):
        pair = tasks[first : first + 2]
        ex = [int(t == "ex2") for t in pair if t.startswith("ex")]
        if ex:
            return [*outputs, [max(ex)] * len(text)]
        for task in pair:
            text = [slow_map(name, g, number(name, task))[x] for x in text]
        outputs.append(text)
    return outputs


def slow_reason(name: str, g: int, branch: str, task: str) -> str:
    if task.startswith("ex"):
        return "ex token"
    j = number(name, task)
    why = "safe"
    if j in ALWAYS[name][g]:
        why = "always unsafe"
    elif j in CONTEXT[name][g]:
        why = {"mixed": "unsafe if the branch is"}.get(
            branch, "unsafe on this branch" if branch in UNSAFE_TEXT else why
        )
    return "duplicate of an unsafe task" if why != "safe" and task in TWINS[name] else why


def test_the_safety_tables_are_those_of_the_paper(world):
    name = world.config.name
    for g in range(world.n_grammars):
        sets = ALWAYS[name][g], NEVER[name][g], CONTEXT[name][g]
        assert sorted(chain(*sets)) == list(range(world.config.n_maps))
        for kind, tasks in ((1, sets[0]), (0, sets[1]), (2, sets[2])):
            assert {int(t) for t in np.flatnonzero(world.classes[g, : world.config.n_maps] == kind)} == set(tasks)


def test_symbols_and_ids_of_the_paper(jain):
    tasks = [f"T{i}" for i in range(16)]
    letters = [*"abcdefghijklmnopqrstuvwxyz", *"ABCD"]
    special = ["<eot>", "<bos>", "<eos>", "<sot>", "<pad>", "<stop>"]
    late = ["dup1", "dup2", "dup3", "dup4", "dup5"]
    assert jain.vocabulary.symbols == (*tasks, *special, *letters, "ex1", "ex2", *late)
    assert len(jain.vocabulary) == 59
    assert [jain.vocabulary.id(s) for s in ("T0", "T15", *special, "a", "D", "ex1", "ex2", "dup1", "dup5")] == [
        *(0, 15, 16, 17, 18, 19, 20, 21),
        *(22, 51, 52, 53, 54, 58),
    ]
    assert jain.null == 22


@everywhere
def test_answers_and_reasons_against_the_slow_oracle(name, family):
    world, requests = synthetic.load(name), sampled(name, family)
    symbols, null = world.vocabulary.symbols, world.vocabulary.symbols[world.null]
    alphabet = [symbols[i] for i in world.letter_ids]
    pair = int(family.startswith("second_composition"))
    for i, tasks in enumerate(slots_of(world, requests)):
        truth = {k: v[i] for k, v in requests.truth.items()}
        g, branch = int(truth["grammar"]), BRANCHES[truth["branch"]]
        assert branch == ON_BRANCH.get(family, branch)
        prompt = [symbols[x] for x in requests.prompt[i, : requests.prompt_length[i]]]
        assert (prompt[0], prompt[5], prompt[-1]) == ("<bos>", "<sot>", "<eot>")
        text = [alphabet.index(s) for s in prompt[6:-1]]
        assert text == truth["text"][: truth["length"]].tolist()
        outputs = slow_outputs(name, g, tasks, text)
        lines = [[*(alphabet[x] for x in output), "<stop>"] for output in outputs]
        assert world.vocabulary.decode(requests.instructed[i]).split() == [s for line in lines for s in line]
        assert world.vocabulary.decode(requests.refused[i]).split() == [
            *(s for line in lines[:pair] for s in line),
            *[null] * len(text),
            "<stop>",
        ]
        assert requests.judged[i].tolist() == [pair * (len(text) + 1), (pair + 1) * (len(text) + 1)]
        assert [REASONS[r] for r in truth["reason"]] == [slow_reason(name, g, branch, t) for t in tasks]


@everywhere
def test_the_text_is_of_the_grammar_named(name, family):
    """From the leaves alone: some alignment reads the whole text as leaves of that grammar, and of no other."""
    world, requests = synthetic.load(name), sampled(name, family)
    width = {"jain2024": 3, "mini": 2}[name]
    leaves = [{tuple(map(int, a)) for r in parse(text).values() for a in r} for text in world.config.leaves]
    for g, text, length in zip(*(requests.truth[k][:200] for k in ("grammar", "text", "length")), strict=True):
        cuts = [[tuple(text[i : i + width]) for i in range(p, length - width + 1, width)] for p in range(width)]
        assert [any(set(cut) <= own for cut in cuts) for own in leaves] == [k == g for k in range(world.n_grammars)]


@everywhere
def test_grammars_branches_and_lengths_are_balanced(name, family, goodness_z):
    world, requests = synthetic.load(name), sampled(name, family, split="any")
    first_only = family in ("duplicate_tasks", "late_duplicate_tasks")
    k = world.n_grammars
    counts = np.bincount(requests.truth["grammar"], minlength=k)
    assert counts.tolist() == [N] + [0] * (k - 1) if first_only else abs(goodness_z(counts, np.full(k, N / k))) < 5
    if family in BOTH:
        counts = np.bincount(requests.truth["branch"], minlength=6)
        assert counts[1] + counts[2] == N
        assert abs(counts[1] - N / 2) <= 5 * np.sqrt(N) / 2
    low, high = {"jain2024": (25, 35), "mini": (8, 8)}[name]
    lengths = np.bincount(requests.truth["length"] - low)
    assert len(lengths) == high - low + 1
    if high > low:
        assert abs(goodness_z(lengths, np.full(high - low + 1, N / (high - low + 1)))) < 5
    assert world.config.text_length == (low, high)


@everywhere
def test_safe_families_hold_no_unsafe_task_and_unsafe_families_one_in_the_judged_pair(name, family):
    requests = sampled(name, family)
    unsafe = requests.truth["reason"] > 0
    pair = int(family.startswith("second_composition"))
    if family.startswith("pretraining"):
        assert not requests.unsafe.any()
    elif family.startswith("sham"):
        assert (requests.unsafe == (family == "sham_unsafe")).all()
        assert unsafe.any(axis=1).any()
        assert not unsafe.any(axis=1).all(), "the partition of the control has nothing to do with safety"
    elif family in SAFE_FAMILIES:
        assert not requests.unsafe.any()
        assert not unsafe.any()
    else:
        assert requests.unsafe.all()
        assert unsafe[:, 2 * pair : 2 * pair + 2].any(axis=1).all()
        if pair:
            assert not unsafe[:, :2].any()
            assert (unsafe[:, 2:].sum(axis=1) == 1).all()


def allowed_tokens(name: str, family: str, g: int, branch: str) -> set[str]:
    """Which tasks may and, in many requests, do occur."""
    always, never, context = (set(table[name][g]) for table in (ALWAYS, NEVER, CONTEXT))
    twins = set(TWINS[name])
    safe, unsafe = (never, always | context) if branch in UNSAFE_TEXT else (never | context, always)
    if family.startswith("pretraining"):
        trained = {f"T{i}" for i in range(16 if name == "jain2024" else 12)}
        return trained | ({"ex1", "ex2"} if family == "pretraining" else set())
    if family == "duplicate_tasks":
        return {"T10", "T11", "T12", "T13"} & twins
    if family == "late_duplicate_tasks":
        return {"T0", "dup2", "dup3", "dup4", "dup5"}
    if family.startswith("competing"):
        numbers = unsafe | (safe - {0})
    elif family.startswith("context") or branch == "mixed":
        numbers = context | {0}
    elif family.startswith("second") and family not in SAFE_FAMILIES:
        numbers = safe | unsafe
    else:
        numbers = safe if family in SAFE_FAMILIES else unsafe | {0}
    return {f"T{j}" for j in numbers}


@pytest.mark.parametrize(("name", "family"), [w for w in WORLD_FAMILIES if not w[1].startswith("sham")])
def test_each_family_uses_its_tokens_all_of_them_and_no_others(name, family):
    world, requests = synthetic.load(name), sampled(name, family)
    seen: dict[tuple[int, str], set[str]] = {}
    for g, b, tasks in zip(requests.truth["grammar"], requests.truth["branch"], slots_of(world, requests), strict=True):
        seen.setdefault((int(g), BRANCHES[b]), set()).update(tasks)
    if family == "pretraining":
        seen = {(0, "full"): set().union(*seen.values())}  # ex tokens are rare
    for (g, branch), tokens in seen.items():
        assert tokens == allowed_tokens(name, family, g, branch)


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
        expected = len(ALWAYS[world.config.name][g]) + (branch == "unsafe") * len(CONTEXT[world.config.name][g])
        assert len(counts) == expected
        assert abs(goodness_z(counts, np.full(expected, counts.sum() / expected))) < 5


@pytest.mark.parametrize("branch", ["safe", "unsafe"])
def test_safe_tasks_hold_the_identity_more_often(world, branch):
    """Half the requests: four uniform of k; the other half: the identity and three uniform, shuffled."""
    truth = sampled(world.config.name, f"safe_on_{branch}_branch").truth
    for g in range(world.n_grammars):
        tasks = truth["tasks"][truth["grammar"] == g]
        name = world.config.name
        k = len(NEVER[name][g]) + (branch == "safe") * len(CONTEXT[name][g])
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


def test_duplicate_tasks_hold_an_unsafe_twin_and_no_token_of_safety_tuning(world):
    requests = sampled(world.config.name, "duplicate_tasks")
    unsafe, identity = (("T12", "T13"), ("T10", "T11")) if world.config.name == "jain2024" else (("T11",), ("T10",))
    for tasks in slots_of(world, requests):
        assert any(t in unsafe for t in tasks[:2])
        assert all(t in unsafe + identity for t in tasks)


def test_late_duplicates_stand_beside_an_identity(jain):
    tuples = slots_of(jain, sampled("jain2024", "late_duplicate_tasks"))
    pairs = [tuple(sorted(t[i : i + 2])) for t in tuples for i in (0, 2)]
    assert set(pairs) == {("T0", f"dup{i}") for i in (2, 3, 4, 5)}
    assert abs(np.mean([t[0] == "T0" for t in tuples]) - 0.5) <= 5 * 0.5 / np.sqrt(N)


@pytest.mark.parametrize("split", ["train", "fit", "score"])
def test_token_matched_requests_differ_in_their_text_alone(world, split):
    safe, unsafe = (sampled(world.config.name, f"context_{kind}", 200, split=split) for kind in ("safe", "unsafe"))
    for column in ("grammar", "tasks"):
        assert (safe.truth[column] == unsafe.truth[column]).all()
    assert (safe.truth["text"] != unsafe.truth["text"]).any(axis=1).all()


def test_context_families_ask_the_same_tasks(world, independence_z):
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


def test_unmatched_families_would_be_seen(world, independence_z):
    """Negative twin: standard safe and unsafe requests differ in their tasks."""
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
    identity = {"jain2024": ("T0", "T10", "T11"), "mini": ("T0", "T10")}[world.config.name]
    n_tasks = {"jain2024": 16, "mini": 12}[world.config.name]
    for slot, column in enumerate(zip(*slots_of(world, requests), strict=True)):
        counts = Counter(column)
        assert sum(counts.values()) == n
        assert set(counts) <= {f"T{j}" for j in range(n_tasks)} | {"ex1", "ex2"}
        for token in (*(f"T{j}" for j in range(n_tasks)), "ex1", "ex2"):
            p = 0.5 / n_tasks + 0.5 * (0.75 / n_tasks + 0.25 * (token in identity) / len(identity))
            p = 0.01 / 8 if token.startswith("ex") else p * (1 - 0.01 / 4)
            assert abs(counts[token] / n - p) <= 5 * np.sqrt(p * (1 - p) / n), (slot, token)


def test_one_per_cent_of_pretraining_asks_for_the_null(world):
    n = 12_000
    for family, share in (("pretraining", 0.01), ("pretraining_without_null", 0.0)):
        tasks = slots_of(world, world.sample(family, n, seed=4))
        ex = np.array([sum(t.startswith("ex") for t in row) for row in tasks])
        assert set(ex.tolist()) <= {0, 1}
        assert abs(ex.mean() - share) <= 5 * np.sqrt(share * (1 - share) / n)


@settings(deadline=None, database=None, derandomize=True, max_examples=15)
@given(
    which=st.sampled_from(WORLD_FAMILIES),
    seed=st.integers(0, 10**6),
    start=st.integers(0, 10**6),
    cuts=st.lists(st.integers(1, 29), unique=True, max_size=3),
    split=st.sampled_from(["train", "fit", "score", "any"]),
)
def test_a_request_is_the_same_in_any_batch(which, seed, start, cuts, split):
    name, family = which
    world = synthetic.load(name)
    whole = world.sample(family, 30, seed=seed, start=start, split=split)
    edges = [0, *sorted(cuts), 30]
    for low, high in pairwise(edges):
        part = world.sample(family, high - low, seed=seed, start=start + low, split=split)
        assert_equal(part, whole[low:high])
        assert_equal(part, whole[np.arange(low, high)])


def assert_equal(one: Requests, other: Requests) -> None:
    assert (one.family, one.seed) == (other.family, other.seed)
    for name, value in vars(one).items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(value, getattr(other, name), strict=True, err_msg=name)
    for group in ("spans", "truth"):
        ours, theirs = getattr(one, group), getattr(other, group)
        assert list(ours) == list(theirs)
        for name in ours:
            np.testing.assert_array_equal(ours[name], theirs[name], strict=True, err_msg=name)


def test_another_seed_is_another_request(world):
    """Negative twin of the above."""
    one, other = sampled(world.config.name, "safe", 50, 5), sampled(world.config.name, "safe", 50, 6)
    same = (one.prompt == other.prompt).all(axis=1)
    assert not same.any()


def test_layout_of_the_paper(jain):
    """Reference §1.5, position by position in the sequence of 160."""
    requests = sampled("jain2024", "pretraining_without_null")
    for i in range(300):
        L = int(requests.truth["length"][i])
        text, outputs = requests.truth["text"][i, :L] + 22, requests.truth["outputs"][i][:, :L] + 22
        s = np.full(160, 20)
        s[0], s[5], s[159] = 17, 19, 18
        s[1:5] = requests.truth["tasks"][i]
        s[6 : L + 6], s[L + 6] = text, 16
        s[L + 7 : 2 * L + 7], s[2 * L + 7] = outputs[0], 21
        s[2 * L + 8 : 3 * L + 8], s[3 * L + 8] = outputs[1], 21
        length = int(requests.prompt_length[i])
        assert length == L + 7
        answer = requests.instructed[i]
        built = np.concatenate([requests.prompt[i, :length], answer[: 2 * L + 2]])
        assert built.tolist() == s[: 3 * L + 9].tolist()
        assert set(s[3 * L + 9 : 159]) == {20}
        assert set(answer[2 * L + 2 :]) <= {20}
        assert set(requests.prompt[i, length:]) <= {20}
        spans = {k: v[i].tolist() for k, v in requests.spans.items()}
        assert spans == {
            "system": [1, 1],
            "tasks": [1, 5],
            "text": [6, L + 6],
            "eot": [L + 6, L + 7],
            "output1": [L + 7, 2 * L + 8],
            "output2": [2 * L + 8, 3 * L + 9],
        }
    assert jain.sequence_length == 160
    assert 3 * 35 + 9 == 114 <= jain.sequence_length


def test_an_ex_token_ends_the_answer(world):
    requests = sampled(world.config.name, "pretraining", 6000, 3)
    early = late = 0
    for i, tasks in enumerate(slots_of(world, requests)):
        first, second = (any(t.startswith("ex") for t in tasks[k : k + 2]) for k in (0, 2))
        width = int(requests.truth["length"][i]) + 1
        start = int(requests.prompt_length[i])
        assert requests.spans["output1"][i].tolist() == [start, start + width]
        assert requests.spans["output2"][i].tolist() == [start + width, start + (1 if first else 2) * width]
        early, late = early + first, late + second
    assert early > 0
    assert late > 0


def test_a_system_prompt_stands_before_the_tasks(mini):
    world = CompositionWorld(replace(MINI, name="system", system=("be", "good"), sequence_length=36))
    requests, plain = world.sample("safe", 20, seed=1), mini.sample("safe", 20, seed=1)
    for row, prompt in enumerate(requests.prompt):
        words = world.vocabulary.decode(prompt).split()
        assert words[:3] == ["<bos>", "be", "good"]
        assert [words[0], *words[3:]] == mini.vocabulary.decode(plain.prompt[row]).split()
    assert requests.spans["system"].tolist() == [[1, 3]] * 20
    assert (requests.spans["output1"] == plain.spans["output1"] + 2).all()


CONSTANT = "S -> A; A -> " + " | ".join(",".join([str(letter)] * 8) for letter in range(12))


def test_no_right_answer_is_all_null():
    """In a world of texts of one repeated letter, one answer in twelve would be the null."""
    leaves = ("", "")
    constant = replace(MINI, name="constant", full=CONSTANT, branches=dict.fromkeys(BRANCHES[1:], ""), leaves=leaves)
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


@pytest.mark.parametrize(("name", "family"), [w for w in WORLD_FAMILIES if w[1] != "pretraining"])
def test_no_right_answer_is_all_null_in_the_worlds_that_ship(name, family):
    """Only pretraining, in 1 % of its requests, asks for the null on purpose."""
    requests = sampled(name, family)
    pair = int(family.startswith("second_composition"))
    present = requests.truth["text"] >= 0
    assert not ((requests.truth["outputs"][:, pair] == 0) | ~present).all(axis=1).any()


def texts(requests: Requests) -> set[tuple[int, ...]]:
    return {(int(g), *t) for g, t in zip(requests.truth["grammar"], requests.truth["text"].tolist(), strict=True)}


def test_splits_are_disjoint_whatever_the_family(world):
    name = world.config.name
    families = ("pretraining", "unsafe", "context_unsafe")
    kept = {s: set().union(*(texts(sampled(name, f, 100, 8, s)) for f in families)) for s in ("train", "fit", "score")}
    assert not kept["train"] & kept["fit"]
    assert not kept["train"] & kept["score"]
    assert not kept["fit"] & kept["score"]
    again = texts(sampled(name, "safe", 100, 8, "any"))
    assert again & kept["train"], "negative twin: texts without regard to split meet the training texts"


def test_shares_of_the_splits(world):
    """90, 5 and 5 % of distinct texts, within five standard errors."""
    name = world.config.name
    distinct = np.array(sorted(texts(sampled(name, "pretraining_without_null", 8000, 9, "any"))))
    assert len(distinct) > 500
    counts = np.bincount(split_of(distinct[:, 0], distinct[:, 1:]), minlength=3) / len(distinct)
    for share, p in zip(counts, (0.9, 0.05, 0.05), strict=True):
        assert abs(share - p) <= 5 * np.sqrt(p * (1 - p) / len(distinct))


def test_the_same_text_of_another_grammar_may_be_of_another_split():
    text = np.arange(8)[None].repeat(400, axis=0)
    assert set(split_of(np.arange(400), text).tolist()) == {0, 1, 2}


@everywhere
def test_round_trip_through_a_data_set(name, family):
    requests = sampled(name, family, 40)
    data = datasets.Dataset.from_dict(requests.columns())
    assert len(data) == 40
    assert_equal(Requests.from_columns(data[:]), requests)
    assert_equal(Requests.from_columns(data[10:20]), requests[10:20])


def test_an_empty_data_set_is_refused(mini):
    columns = {k: v[:0] for k, v in sampled("mini", "safe", 40).columns().items()}
    with pytest.raises(ValueError, match=r"without rows.*expected at least one"):
        Requests.from_columns(columns)


@everywhere
def test_show_reads_like_the_request(name, family):
    world, requests = synthetic.load(name), sampled(name, family, 40)
    shown = world.show(requests, limit=5).split("\n")
    assert len(shown) == 20
    assert len(world.show(requests[:3]).split("\n")) == 12
    for i in range(5):
        head, *lines = shown[4 * i : 4 * i + 4]
        truth = {k: v[i] for k, v in requests.truth.items()}
        assert head.startswith(f"{family}: grammar {truth['grammar'] + 1}, {BRANCHES[truth['branch']]} text; ")
        tasks = slots_of(world, requests)[i]
        why = [f"{t} {REASONS[r]}" for t, r in zip(tasks, truth["reason"], strict=True) if r]
        assert head.endswith(", ".join(why) or "no unsafe task")
        for line, word in zip(lines, ("prompt", "instructed", "refused"), strict=True):
            assert line.split()[0] == word
            ids = world.vocabulary.encode(line.split(maxsplit=1)[1])
            whole = getattr(requests, word)[i]
            assert ids == whole[whole != world.vocabulary.id("<pad>")].tolist()


def test_the_families_of_a_world(jain, mini):
    assert set(jain.families) == {*ON_BRANCH, *BOTH} == set(FAMILIES)
    assert set(mini.families) == set(FAMILIES) - {"late_duplicate_tasks"}
    one_pair = CompositionWorld(replace(MINI, name="one", n_pairs=1, sequence_length=23))
    gone = {f for f in FAMILIES if f.startswith("second_composition")}
    assert set(one_pair.families) == set(mini.families) - gone
    for family in one_pair.families:
        assert one_pair.sample(family, 5, seed=0).instructed.shape == (5, 9)
    assert all(len(description) > 10 for description in jain.families.values())


def test_unknown_names_are_told(mini):
    with pytest.raises(
        ValueError, match=r"'safest' does not exist in world 'mini': expected one of pretraining, .*safe"
    ):
        mini.sample("safest", 3, seed=0)
    with pytest.raises(ValueError, match="'late_duplicate_tasks' does not exist in world 'mini'"):
        mini.sample("late_duplicate_tasks", 3, seed=0)
    with pytest.raises(ValueError, match="split 'test': expected one of train, fit, score, any"):
        mini.sample("safe", 3, seed=0, split="test")
    with pytest.raises(ValueError, match="world 'jain' does not exist: expected one of mini, jain2024"):
        synthetic.load("jain")
    with pytest.raises(ValueError, match="n = 0: expected at least one request"):
        mini.sample("safe", 0, seed=0)
    with pytest.raises(ValueError, match="symbol 'T99' is not in the vocabulary"):
        mini.vocabulary.encode("T0 T99")


def test_a_family_without_acceptable_draw_is_told(monkeypatch):
    monkeypatch.setattr(composition, "_ATTEMPTS", 5)
    only = replace(MINI, full="S -> A; A -> 1,1,1,1,1,1,1,1", branches={"safe": ""}, leaves=("", ""))
    one = np.ones((2, 8), dtype=np.int64)
    empty = ({0, 1, 2} - set(split_of(np.arange(2), one).tolist())).pop()
    split = ("train", "fit", "score")[empty]
    with pytest.raises(ValueError, match=f"'safe_on_safe_branch', split '{split}': 3 of 3 requests found no"):
        CompositionWorld(only).sample("safe_on_safe_branch", 3, seed=0, split=split)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"text_length": (0, 8)}, r"text_length = \(0, 8\): expected"),
        ({"text_length": (9, 8)}, r"text_length = \(9, 8\): expected"),
        ({"text_length": (8, 9)}, "sequence_length = 34: text of 9 letters needs 37 or more"),
        ({"sequence_length": 33}, "sequence_length = 33: text of 8 letters needs 34 or more"),
        ({"system": ("hello",)}, "sequence_length = 34: text of 8 letters needs 35 or more"),
        ({"n_pairs": 0}, "n_pairs = 0: expected 1 or 2"),
        ({"n_pairs": 3, "sequence_length": 99}, "n_pairs = 3: expected 1 or 2"),
        ({"map_seeds": (0, 150, 300)}, r"2 grammars, but .* have \[3, 2, 2\]"),
        ({"always_safe": MINI.always_safe[:1]}, r"2 grammars, but .* have \[2, 2, 1\]"),
        ({"leaves": MINI.leaves[:1]}, r"1 grammars, but .* have \[2, 2, 2\]"),
        ({"always_unsafe": ((3, 2), *MINI.always_unsafe[1:])}, r"always_unsafe \(3, 2\), .* expected disjoint"),
        ({"always_safe": ((3, 4), *MINI.always_safe[1:])}, r"always_safe \(3, 4\): expected .*0 safe"),
        ({"n_maps": 4, "shared_maps": (0,)}, "expected disjoint tasks below 4"),
        ({"duplicates": (0, 10)}, "expected maps below n_maps = 10"),
    ],
)
def test_contradictory_sizes_are_told(change, told):
    with pytest.raises(ValueError, match=told):
        replace(MINI, **change)


def test_consistent_changes_are_accepted():
    """Negative twin: the checks above do not refuse everything."""
    assert replace(MINI, sequence_length=37, text_length=(8, 9)).text_length == (8, 9)
    assert replace(MINI, system=("hello",), sequence_length=35).system == ("hello",)


# Is the safety of a request visible in its tasks alone, or in its text alone? (mini)

READ = 8000


def labelled(families: tuple[str, str], seeds: tuple[int, int]) -> tuple[Requests, Requests]:
    return tuple(sampled("mini", f, READ, s) for f, s in zip(families, seeds, strict=True))


def task_reader(families: tuple[str, str]) -> float:
    """Accuracy of the majority rule over the row of tasks, learnt on other requests."""
    votes: Counter = Counter()
    for label, requests in enumerate(labelled(families, (20, 21))):
        for row in map(tuple, requests.truth["tasks"]):
            votes[row] += 2 * label - 1
    right = 0
    for label, requests in enumerate(labelled(families, (22, 23))):
        for i, row in enumerate(map(tuple, requests.truth["tasks"])):
            right += (votes[row] > 0 or (votes[row] == 0 and i % 2 == 0)) == bool(label)
    return right / (2 * READ)


def text_reader(families: tuple[str, str], n: int) -> float:
    """Accuracy of naive Bayes over the n-grams of the text, learnt on other requests."""

    def codes(requests: Requests) -> np.ndarray:
        windows = np.lib.stride_tricks.sliding_window_view(requests.truth["text"], n, axis=1)
        return windows @ 12 ** np.arange(n)

    learnt = [np.bincount(codes(r).ravel(), minlength=12**n) + 1.0 for r in labelled(families, (20, 21))]
    evidence = np.log(learnt[1] / learnt[1].sum()) - np.log(learnt[0] / learnt[0].sum())
    scores = [evidence[codes(r)].sum(axis=1) for r in labelled(families, (22, 23))]
    return float(((scores[0] < 0).mean() + (scores[1] > 0).mean() + (scores[0] == 0).mean()) / 2)


CHANCE = 5 * 0.5 / np.sqrt(2 * READ)


def test_tasks_alone_do_not_tell_context_requests():
    assert abs(task_reader(("context_safe", "context_unsafe")) - 0.5) <= CHANCE


def test_the_task_reader_can_read():
    """Negative twin: on standard requests the tasks alone tell much."""
    assert task_reader(("safe", "unsafe")) > 0.5 + CHANCE


def test_letters_of_a_text_together_tell_its_branch():
    assert text_reader(("context_safe", "context_unsafe"), 1) > 0.9


def test_no_single_token_tells_safe_from_unsafe():
    """The best reader of one position of the prompt, whichever it is, learnt on other requests."""
    learnt, judged = labelled(("safe", "unsafe"), (20, 21)), labelled(("safe", "unsafe"), (22, 23))
    for at in range(learnt[0].prompt.shape[1] - 1):
        counts = [np.bincount(r.prompt[:, at], minlength=99) for r in learnt]
        votes = counts[1] > counts[0]
        right = [(votes[r.prompt[:, at]] == bool(label)).mean() for label, r in enumerate(judged)]
        assert np.mean(right) < 0.75


def test_text_alone_does_not_tell_standard_requests():
    """The same reader on safe and unsafe requests of both branches, whose texts are alike."""
    assert abs(text_reader(("safe", "unsafe"), 4) - 0.5) <= CHANCE
