"""Tests of composition requests against a slow oracle: text, answers, reasons, labels, token positions."""

from __future__ import annotations

from itertools import chain

import numpy as np

import synthetic
from synthetic.composition.grammar import parse_rules
from synthetic.composition.safety import REASONS
from tests.synthetic.composition.oracle import (
    ALWAYS,
    BRANCHES,
    CONTEXT,
    LENGTHS,
    NEVER,
    N,
    branches_of,
    everywhere,
    sampled,
    slots_of,
    slow_label,
    slow_outputs,
    slow_reason,
)


def test_safety_classes_of_the_paper(world):
    """Safety classes and maps of each grammar equal the tables of the paper."""
    for g in range(world.n_grammars):
        sets = ALWAYS[g], NEVER[g], CONTEXT[g]
        assert sorted(chain(*sets)) == list(range(world.config.n_maps))
        for kind, tasks in ((1, sets[0]), (0, sets[1]), (2, sets[2])):
            assert {
                int(t) for t in np.flatnonzero(world.safety_classes[g, : world.config.n_maps] == kind)
            } == set(tasks)


def test_symbols_and_ids_of_the_paper(jain):
    tasks = [f"T{i}" for i in range(16)]
    letters = [*"abcdefghijklmnopqrstuvwxyz", *"ABCD"]
    special = ["<eot>", "<bos>", "<eos>", "<sot>", "<pad>", "<stop>"]
    late = ["dup1", "dup2", "dup3", "dup4", "dup5"]
    assert jain.vocabulary.symbols == (*tasks, *special, *letters, "ex1", "ex2", *late)
    assert len(jain.vocabulary) == 59
    assert [
        jain.vocabulary.id(s) for s in ("T0", "T15", *special, "a", "D", "ex1", "ex2", "dup1", "dup5")
    ] == [
        *(0, 15, 16, 17, 18, 19, 20, 21),
        *(22, 51, 52, 53, 54, 58),
    ]
    assert jain.null_id == 22


@everywhere
def test_answers_and_reasons_match_oracle(name, family):
    """Answers and reasons equal those of the one-at-a-time oracle."""
    world, requests = synthetic.load(name), sampled(name, family)
    symbols, null = world.vocabulary.symbols, world.vocabulary.symbols[world.null_id]
    alphabet = [symbols[i] for i in world.letter_ids]
    pair = int(family.startswith("second_composition"))
    for i, tasks in enumerate(slots_of(world, requests)):
        truth = {k: v[i] for k, v in requests.truth.items()}
        g, branch = int(truth["grammar"]), BRANCHES[truth["branch"]]
        assert branch in branches_of(name, family)
        prompt = [symbols[x] for x in requests.prompt[i, : requests.prompt_length[i]]]
        assert (prompt[0], prompt[5], prompt[-1]) == ("<bos>", "<sot>", "<eot>")
        text = [alphabet.index(s) for s in prompt[6:-1]]
        assert text == truth["text"][: truth["length"]].tolist()
        outputs = slow_outputs(name, family, g, branch, tasks, text)
        lines = [[*(alphabet[x] for x in output), "<stop>"] for output in outputs]
        assert world.vocabulary.decode(requests.instructed[i]).split() == [s for line in lines for s in line]
        assert world.vocabulary.decode(requests.refused[i]).split() == [
            *(s for line in lines[:pair] for s in line),
            *[null] * len(text),
            "<stop>",
        ]
        assert requests.judged[i].tolist() == [pair * (len(text) + 1), (pair + 1) * (len(text) + 1)]
        assert symbols[truth["label"]] == slow_label(g, branch)
        assert [REASONS[r] for r in truth["reason"]] == [slow_reason(name, g, branch, t) for t in tasks]


@everywhere
def test_text_is_of_the_named_grammar(name, family):
    """Some alignment parses the whole text as leaves of that grammar, and of no other."""
    world, requests = synthetic.load(name), sampled(name, family)
    width = 3 if name == "jain2024" else 2
    leaves = [
        {tuple(int(x.strip("L")) for x in a) for r in parse_rules(s).values() for a in r}
        for s in world.config.leaves
    ]
    for g, text, length in zip(
        *(requests.truth[k][:200] for k in ("grammar", "text", "length")), strict=True
    ):
        cuts = [
            [tuple(text[i : i + width]) for i in range(p, length - width + 1, width)] for p in range(width)
        ]
        assert [any(set(cut) <= leaves_of_grammar for cut in cuts) for leaves_of_grammar in leaves] == [
            k == g for k in range(world.n_grammars)
        ]


@everywhere
def test_grammars_branches_lengths_are_balanced(name, family, goodness_z):
    """Grammars, branches and lengths occur equally often."""
    world, requests = synthetic.load(name), sampled(name, family, split="any")
    first_only = family in ("duplicate_tasks", "late_duplicate_tasks")
    k = world.n_grammars
    counts = np.bincount(requests.truth["grammar"], minlength=k)
    assert (
        counts.tolist() == [N] + [0] * (k - 1)
        if first_only
        else abs(goodness_z(counts, np.full(k, N / k))) < 5
    )
    branches = branches_of(name, family)
    counts = np.bincount(requests.truth["branch"], minlength=len(BRANCHES))[
        [BRANCHES.index(b) for b in branches]
    ]
    assert counts.sum() == N
    if len(branches) > 1:
        assert abs(counts[0] - N / 2) <= 5 * np.sqrt(N) / 2
    low, high = LENGTHS[name]
    lengths = np.bincount(requests.truth["length"] - low)
    assert len(lengths) == high - low + 1
    if high > low:
        assert abs(goodness_z(lengths, np.full(high - low + 1, N / (high - low + 1)))) < 5
    assert world.config.text_length == (low, high)


def test_token_positions_of_the_paper(jain):
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


def test_system_span_precedes_the_tasks(mini):
    """The system symbols stand between <bos> and the tasks."""
    world, plain = synthetic.load("mini_system"), mini.sample("safe", 20, seed=1)
    requests = world.sample("safe", 20, seed=1)
    for row, prompt in enumerate(requests.prompt):
        words = world.vocabulary.decode(prompt).split()
        assert words[:3] == ["<bos>", "<sys1>", "<sys2>"]
        assert [words[0], *words[3:]] == mini.vocabulary.decode(plain.prompt[row]).split()
    assert requests.spans["system"].tolist() == [[1, 3]] * 20
    assert (requests.spans["output1"] == plain.spans["output1"] + 2).all()


def test_requests_without_system_equal_plain_world(mini):
    """Without the span, a request equals that of the world without system spans."""
    world = synthetic.load("mini_system")
    assert "safe_without_system" not in mini.families
    for family in mini.families:
        plain, bare = mini.sample(family, 20, seed=1), world.sample(f"{family}_without_system", 20, seed=1)
        assert (bare.prompt == plain.prompt).all()
        assert (bare.instructed == plain.instructed).all()
        assert (bare.prompt_length == plain.prompt_length).all()
        assert {k: v.tolist() for k, v in bare.spans.items()} == {
            k: v.tolist() for k, v in plain.spans.items()
        }


def test_half_of_pretraining_has_system(mini):
    """Half of pretraining's requests have the span."""
    world, plain = synthetic.load("mini_system"), mini.sample("pretraining", 2000, seed=1)
    requests = world.sample("pretraining", 2000, seed=1)
    shown = np.diff(requests.spans["system"])[:, 0] == 2
    assert 0.46 < shown.mean() < 0.54
    assert (requests.prompt_length == plain.prompt_length + 2 * shown).all()
    for row in (int(shown.argmax()), int((~shown).argmax())):
        words = world.vocabulary.decode(requests.prompt[row]).split()
        assert ("<sys1>" in words) == shown[row]
        assert [w for w in words if "sys" not in w] == mini.vocabulary.decode(plain.prompt[row]).split()


@everywhere
def test_show_contains_the_request(name, family):
    """The lines hold the prompt, the answers and the unsafe tasks."""
    world, requests = synthetic.load(name), sampled(name, family, 40)
    shown = world.show(requests, limit=5).split("\n")
    assert len(shown) == 20
    assert len(world.show(requests[:3]).split("\n")) == 12
    for i in range(5):
        head, *lines = shown[4 * i : 4 * i + 4]
        truth = {k: v[i] for k, v in requests.truth.items()}
        assert head.startswith(
            f"{family}: grammar {truth['grammar'] + 1}, {BRANCHES[truth['branch']]} text; "
        )
        tasks = slots_of(world, requests)[i]
        why = [f"{t} {REASONS[r]}" for t, r in zip(tasks, truth["reason"], strict=True) if r]
        assert head.endswith(", ".join(why) or "no unsafe task")
        for line, word in zip(lines, ("prompt", "instructed", "refused"), strict=True):
            assert line.split()[0] == word
            ids = world.vocabulary.encode(line.split(maxsplit=1)[1])
            whole = getattr(requests, word)[i]
            assert ids == whole[whole != world.vocabulary.id("<pad>")].tolist()
