"""Tests of the grammars of Jain et al. 2024 (reference §1.6) and of uniformly positioned windows.

The oracle expands one derivation at a time, by recursion, and cuts its window from the whole string.
"""

from __future__ import annotations

import random
import re
import subprocess
import sys
from functools import cache
from itertools import combinations

import numpy as np
import pytest

import synthetic
from synthetic.composition.grammar import Grammar, parse_rules
from synthetic.draws import Draws

BRANCHES = ("full", "safe", "unsafe", "unsafe_long", "heldout", "mixed")
every_branch = pytest.mark.parametrize(
    ("name", "branch"),
    [(name, branch) for name in ("mini", "jain2024") for branch in BRANCHES]
    + [("hidden", branch) for branch in ("full", "safe", "unsafe", "heldout", "unsafe_skewed")],
)
# branch: letters of the whole string, mean, fewest, most; half a unit of the last digit of the mean
STRINGS = {
    "full": (391, 0.5, 261, 486),
    "safe": (71.7, 0.05, 54, 81),
    "unsafe_long": (76, 0.5, 42, 162),
    "mixed": (52.3, 0.05, 45, 54),
    "unsafe": (49, 0.5, 36, 54),
    "heldout": (45, 0.5, 36, 54),
}

# Reference §1.6 in its own notation. A derived grammar keeps FULL's rule for a symbol that it does not name.
PAPER_FULL = """
S->A1 A2|A2 A3  A1->B1 B3|B3 B4 B2|B5 B1 B2  A2->B2 B3 B1|B6 B3 B2|B4 B1  A3->B3 B5|B1 B4 B6|B4 B6 B5
B1->C1 C2 C3|C4 C5 C1  B2->C4 C1|C3 C1 C5  B3->C3 C2|C1 C1 C4
B4->C5 C4 C3|C2 C4 C2  B5->C2 C5 C5|C2 C2 C5  B6->C3 C3 C5|C4 C4 C1
C1->D1 D2 D3|D1 D5 D3  C2->D2 D5 D4|D2 D1 D3  C3->D1 D2 D4|D4 D5 D1  C4->D4 D5 D5|D1 D4 D3
C5->D3 D3 D1|D4 D1
D1->E6 E3 E1|E3 E6 E1  D2->E4 E1 E3|E5 E1 E2  D3->E3 E4 E6|E5 E2 E4  D4->E6 E2 E5|E6 E4 E2
D5->E2 E6 E5|E5 E4 E2
"""
PAPER_SHORT = " D1->E6 E1|E3 E6  D2->E4 E1|E1 E2  D3->E3 E4|E5 E2  D4->E6 E2|E6 E4  D5->E2 E6|E5 E4"
PAPER = {
    "full": "",
    "safe": "S->A1|A2|A2|A3  A1->B1|B3|B1|B2  A2->B2|B3|B1  A3->B3|B1",
    "unsafe_long": "S->A1|A3  A1->B5  A3->B5|B4 B6|B4 B6 B5" + PAPER_SHORT,
    "unsafe": "S->A1|A3  A1->B5  A3->B5|B4|B4|B5|B6  B4->C2 C4 C2  B5->C2 C5 C5|C2 C2 C5  B6->C3 C3"
    + PAPER_SHORT,
    "heldout": "S->A3  A3->B6  B6->C3 C5|C4 C4 C1  C5->D3 D3 D1" + PAPER_SHORT,
    "mixed": "S->A1|A2|A2|A3  A1->B3' B4|B5' B1  A2->B6' B3|B4' B1  A3->B3' B5|B1' B4  B1->C1|C4  "
    "B1'->C3|C1  B3->C3|C1  B3'->C2|C4  B4->C5|C2  B4'->C3|C2  B5->C2  B5'->C5  B6'->C5|C1",
}
PAPER_LEAVES = """
E1 0,1,2|3,4,5 E2 7,8,9|10,11,12 E3 13,14,15|16,17,18 \
E4 19,20,21|22,23,24 E5 25,26,27|28,29,28 E6 27,26,25|24,23,22
E1 21,20,19|18,17,16 E2 15,14,13|12,11,10 E3 9,8,7|6,5,4 \
E4 3,2,1|0,2,4 E5 6,8,10|12,14,16 E6 18,20,22|24,26,28
E1 29,27,25|23,22,20 E2 18,16,14|12,10,8 E3 6,4,2|0,3,6 \
E4 9,12,15|18,21,24 E5 27,26,23|20,17,14 E6 11,8,5|2,4,8
E1 12,16,20|24,28,25 E2 21,17,13|9,5,1 E3 5,10,15|20,25,28 \
E4 23,18,13|8,3,6 E5 12,18,24|28,22,16 E6 10,4,2|7,14,21
""".strip().split("\n")


def paper_rules(branch: str, g: int) -> dict[str, list[list[str]]]:
    """Rules of the reference that can be reached from S, alternatives sorted, repeats kept."""
    matches = re.findall(r"(\S+)->(.*?)(?=\s+\S+->|$)", " ".join((PAPER_FULL + " " + PAPER[branch]).split()))
    rules = {
        head: sorted(a.split() for a in body.split("|")) for head, body in matches
    }  # the last rule holds
    rules |= {
        e: sorted(a.split(",") for a in x.split("|")) for e, x in re.findall(r"(E\d) (\S+)", PAPER_LEAVES[g])
    }
    reached, todo = {}, ["S"]
    while todo:
        symbol = todo.pop()
        if symbol in rules and symbol not in reached:
            reached[symbol] = rules[symbol]
            todo += [child for alternative in rules[symbol] for child in alternative]
    return reached


def slow_string(grammar: Grammar, rng: random.Random, symbol: str = "S") -> list[int]:
    if symbol not in grammar.rules:
        return [int(symbol)]
    return [x for child in rng.choice(grammar.rules[symbol]) for x in slow_string(grammar, rng, child)]


def slow_window(grammar: Grammar, rng: random.Random, length: int) -> tuple[int, ...]:
    string = slow_string(grammar, rng)
    start = rng.randrange(len(string) - length + 1)
    return tuple(string[start : start + length])


def moments(grammar: Grammar, symbol: str = "S") -> tuple[float, float]:
    """Exact mean and mean square of the letters that a symbol yields."""
    if symbol not in grammar.rules:
        return 1.0, 1.0
    first = second = 0.0
    for alternative in grammar.rules[symbol]:
        parts = [moments(grammar, child) for child in alternative]
        mean = sum(m for m, _ in parts)
        first += mean
        second += sum(s - m * m for m, s in parts) + mean * mean
    return first / len(grammar.rules[symbol]), second / len(grammar.rules[symbol])


def is_window(grammar: Grammar, text: tuple[int, ...]) -> bool:
    """Whether some derivation holds `text` as a contiguous part."""
    rules, end = grammar.rules, len(text)

    @cache
    def from_start(symbol: str, at: int) -> frozenset[int]:
        """Where a derivation begun at `at` may end; one that runs beyond the text ends at `end`."""
        if at == end:
            return frozenset([end])
        if symbol not in rules:
            return frozenset([at + 1] if text[at] == int(symbol) else [])
        return frozenset(e for alternative in rules[symbol] for e in row(alternative, frozenset([at])))

    def row(symbols: tuple[str, ...], ends: frozenset[int]) -> frozenset[int]:
        for symbol in symbols:
            ends = frozenset(e for at in ends for e in from_start(symbol, at))
        return ends

    @cache
    def cut_open(symbol: str) -> frozenset[int]:
        """Where a derivation may end of which the text shows a non-empty last part, or only a middle part."""
        if symbol not in rules:
            return from_start(symbol, 0)
        return frozenset(
            e
            for alternative in rules[symbol]
            for i, child in enumerate(alternative)
            for e in row(alternative[i + 1 :], cut_open(child))
        )

    return end in cut_open("S")


def windows(grammar: Grammar, n: int, length: int, seed: int = 0) -> list[tuple[int, ...]]:
    return [tuple(w) for w in grammar.sample(Draws(seed, np.arange(n)), np.full(n, length)).tolist()]


def contingency(*samples: list) -> np.ndarray:
    names = sorted(set().union(*samples))
    return np.array([[sample.count(name) for name in names] for sample in samples])


@pytest.mark.parametrize("branch", BRANCHES)
@pytest.mark.parametrize("g", range(4))
def test_rules_of_the_paper(jain, branch, g):
    grammar = jain.grammars[branch, g]
    reached = {symbol for level in grammar.symbols_by_level for symbol in level}
    assert {s: sorted(map(list, grammar.rules[s])) for s in reached} == paper_rules(branch, g)


@pytest.mark.parametrize("branch", BRANCHES)
@pytest.mark.parametrize("g", range(4))
def test_string_lengths_of_the_paper(jain, branch, g):
    grammar = jain.grammars[branch, g]
    mean, half_unit, fewest, most = STRINGS[branch]
    assert grammar.yield_lengths["S"] == (fewest, most)
    exact, square = moments(grammar)
    standard_error = np.sqrt((square - exact**2) / 1000)  # the reference measured on 1 000 strings or more
    assert abs(exact - mean) <= half_unit + 5 * standard_error


@every_branch
def test_oracle_agrees_with_exact_lengths(name, branch):
    """Mean length of the oracle's strings is the exact one."""
    world = synthetic.load(name)
    grammar, rng = world.grammars[branch, 0], random.Random(1)
    lengths = np.array([len(slow_string(grammar, rng)) for _ in range(300)])
    exact, square = moments(grammar)
    assert abs(lengths.mean() - exact) <= 5 * np.sqrt((square - exact**2) / 300) + 1e-9
    low, high = grammar.yield_lengths["S"]
    assert low <= lengths.min() <= lengths.max() <= high


@every_branch
@pytest.mark.parametrize("g", [0, 1])
def test_windows_have_the_oracles_distribution(independence_z, name, branch, g):
    """N-grams at several positions of a window have the distribution of the oracle's."""
    world = synthetic.load(name)
    grammar, rng, n = world.grammars[branch, g], random.Random(2), 1200
    length = world.config.text_length[1]
    fast, slow = windows(grammar, n, length), [slow_window(grammar, rng, length) for _ in range(n)]
    parts = (slice(0, 1), slice(0, 3), slice(length // 2, length // 2 + 4), slice(length - 3, length))
    if name == "hidden":  # its letters are freer: longer n-grams would be too rare to count
        parts = (slice(0, 1), slice(0, 2), slice(1, 3), slice(5, 7), slice(7, 8))
    for part in parts:  # one n-gram per window, so that the counts are independent
        assert abs(independence_z(contingency([w[part] for w in fast], [w[part] for w in slow]))) < 5
    ends = [(w[0], w[-1]) for w in fast], [(w[0], w[-1]) for w in slow]
    assert abs(independence_z(contingency(*ends))) < 5


def test_window_comparison_separates_branches(world, independence_z):
    """Negative control: the comparison of windows detects safe text in place of unsafe text."""
    rng, n, length = random.Random(2), 2000, world.config.text_length[1]
    part = (
        slice(None, None, length - 1) if world.config.name == "hidden" else slice(2, 6)
    )  # its ends alone tell
    safe = [w[part] for w in windows(world.grammars["safe", 0], n, length)]
    unsafe = [slow_window(world.grammars["unsafe", 0], rng, length)[part] for _ in range(n)]
    assert independence_z(contingency(safe, unsafe)) > 5


def test_leaves_of_grammars_are_disjoint(world):
    """No letter string of one grammar is one of another."""
    width = {"jain2024": 3, "mini": 2, "hidden": 2}[world.config.name]
    leaves = [[a for rule in parse_rules(text).values() for a in rule] for text in world.config.leaves]
    for strings in leaves:
        assert {len(a) for a in strings} == {width}
    if world.config.name == "jain2024":
        assert [len(set(strings)) for strings in leaves] == [12] * 4
        assert [len({x for a in strings for x in a}) for strings in leaves] == [29, 26, 25, 24]
    for one, other in combinations(leaves, 2):
        assert not set(one) & set(other)


@every_branch
def test_every_window_is_part_of_a_derivation(name, branch):
    world = synthetic.load(name)
    low, high = world.config.text_length
    n = 12
    lengths = low + np.arange(n) % (high - low + 1)
    for g in range(world.n_grammars):
        grammar, next_one = (world.grammars[branch, k % world.n_grammars] for k in (g, g + 1))
        for text, length in zip(grammar.sample(Draws(4, np.arange(n)), lengths), lengths, strict=True):
            assert (text[length:] == -1).all()
            assert is_window(grammar, tuple(text[:length].tolist()))
            assert not is_window(next_one, tuple(text[:length].tolist()))


@pytest.mark.parametrize(("branch", "other"), [("safe", "unsafe"), ("unsafe", "safe")])
def test_windows_are_seldom_of_the_other_branch(world, branch, other):
    """Negative control of the membership oracle; reference §1.7: under 5 % of 6-grams agree."""
    texts = windows(world.grammars[branch, 1], 60, world.config.text_length[0])
    assert sum(is_window(world.grammars[other, 1], text) for text in texts) < 30


def test_texts_are_of_the_named_branch(world):
    """Texts of requests can be derived in their branch and grammar."""
    branches = (*BRANCHES, "unsafe_skewed")
    families = {"pretraining", "safe", "unsafe_long", "heldout_text", "mixed_text"}
    for family in families & set(world.families):
        truth = world.sample(family, 16, seed=1).truth
        for g, b, length, text in zip(
            truth["grammar"], truth["branch"], truth["length"], truth["text"], strict=True
        ):
            assert is_window(world.grammars[branches[b], g], tuple(text[:length].tolist()))


def test_membership_oracle_by_brute_force():
    """The oracle agrees with the enumeration of all windows."""
    grammar = Grammar(parse_rules("S -> A B | B A A; A -> a | b; B -> b; a -> 0,1; b -> 2,3 | 2,0"))

    def strings(symbol: str) -> set[tuple[int, ...]]:
        if symbol not in grammar.rules:
            return {(int(symbol),)}
        strings_of_symbol = set()
        for alternative in grammar.rules[symbol]:
            rows = {()}
            for child in alternative:
                rows = {row + more for row in rows for more in strings(child)}
            strings_of_symbol |= rows
        return strings_of_symbol

    parts = {s[i : i + 3] for s in strings("S") for i in range(len(s) - 2)}
    for text in np.ndindex(4, 4, 4):
        assert is_window(grammar, text) == (text in parts)
    assert set(windows(grammar, 3000, 3)) == parts


def test_window_positions_are_uniform(goodness_z):
    """Every position of a window in its string is equally likely."""
    rules = "S -> A B; A -> a a; B -> b b; a -> 0,1,2,3 | 4,5,6,7; b -> 8,9,10 | 11,12,13"
    grammar, n, length = (
        Grammar(parse_rules(rules)),
        20_000,
        5,
    )  # a yields 4 letters and b 3: no level is even but S
    place = [(x % 4) if x < 8 else (x - 8) % 3 for x in range(14)]
    shapes = [(0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 0, 1, 2)[s : s + length] for s in range(10)]
    positions = [tuple(place[x] if x < 8 else place[x] + 10 for x in w) for w in windows(grammar, n, length)]
    tagged = [
        tuple(p if s + i < 8 else p + 10 for i, p in enumerate(shape)) for s, shape in enumerate(shapes)
    ]
    counts = {t: positions.count(t) for t in set(tagged)}
    expected = {t: n * tagged.count(t) / 10 for t in counts}
    assert sum(counts.values()) == n
    assert abs(goodness_z(np.array(list(counts.values())), np.array(list(expected.values())))) < 5


def test_window_positions_in_strings_of_unequal_length(goodness_z):
    """Positions are uniform within each string, whatever its length."""
    grammar = Grammar(parse_rules("S -> A | A B | A B C; A -> 0,1,2,3; B -> 4,5,6,7; C -> 8,9,10,11"))
    n, length = 30_000, 3
    counts = np.bincount([w[0] for w in windows(grammar, n, length)], minlength=10)
    expected = sum((np.arange(10) < total - 2) / (total - 2) for total in (4, 8, 12)) * n / 3
    assert abs(goodness_z(counts, expected)) < 5


def test_windows_start_anywhere_in_a_leaf(jain, goodness_z):
    """Each position within a leaf of three letters is equally likely, up to the two ends of a string."""
    leaves = {tuple(map(int, a)) for rule in parse_rules(jain.config.leaves[0]).values() for a in rule}
    n, phases = 3000, []
    for w in windows(jain.grammars["full", 0], n, 35):
        fits = [p for p in range(3) if all(w[i : i + 3] in leaves for i in range(p, 33, 3))]
        assert len(fits) == 1
        phases += fits
    assert abs(goodness_z(np.bincount(phases, minlength=3), np.full(3, n / 3))) < 5


def test_lengths_in_a_batch_are_independent(world):
    """A window does not depend on the lengths of others in its batch."""
    grammar = world.grammars["full", 0]
    low, high = world.config.text_length
    lengths = low + np.arange(30) % (high - low + 1)
    together = grammar.sample(Draws(0, np.arange(30)), lengths)
    for i in range(30):
        single = grammar.sample(Draws(0, np.array([i])), lengths[i : i + 1])
        assert (together[i, : lengths[i]] == single[0]).all()


def test_repeated_alternatives_are_likelier(goodness_z):
    """Alternatives that stand twice are twice as likely."""
    grammar = Grammar(parse_rules("S -> A | A | B; A -> 0 | 1 | 1 | 1\nB -> 2"))
    counts = np.bincount([w[0] for w in windows(grammar, 12_000, 1)])
    assert abs(goodness_z(counts, np.array([2000.0, 6000.0, 4000.0]))) < 5


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("S -> A B; A 0,1", "'A 0,1'"),
        ("S -> A | ; A -> 0", "'S -> A |'"),
        ("S -> | A", "'S -> | A'"),
        ("S ->", "'S ->'"),
        ("S -> A; -> 0,1", "'-> 0,1'"),
        ("S -> A; A -> 0; A -> 1", "'A -> 1'"),
    ],
)
def test_malformed_rule_is_an_error(text, named):
    """The error names the rule."""
    with pytest.raises(ValueError, match="grammar rule") as error:
        parse_rules(text)
    assert named in str(error.value)


@pytest.mark.parametrize("text", ["S -> A B; A -> 0,1", "S -> A 1; A -> 0"])
def test_symbol_without_rule_is_an_error(text):
    """The error names the symbol."""
    with pytest.raises(ValueError, match=r"\['[B1]'\] have no rule"):
        Grammar(parse_rules(text)).sample(Draws(0, np.arange(2)), np.array([1, 1]))


def test_recursive_rule_is_an_error():
    """A rule that leads back to itself is an error and no endless loop."""
    code = (
        "from synthetic.composition.grammar import Grammar, parse_rules; "
        "Grammar(parse_rules('S -> A A; A -> S | A')).yield_lengths"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=5, check=False
    )
    assert "ValueError" in done.stderr


def test_too_long_window_is_an_error():
    """The error names the length and the shortest string."""
    grammar = Grammar(parse_rules("S -> A | A A; A -> 0,1,2"))
    assert grammar.sample(Draws(0, np.arange(4)), np.full(4, 3)).shape == (4, 3)
    with pytest.raises(ValueError, match="text of 4 letters from a grammar whose shortest string has 3"):
        grammar.sample(Draws(0, np.arange(4)), np.array([3, 4, 3, 3]))


def test_another_start_symbol():
    grammar = Grammar(parse_rules("S -> A A; A -> B; B -> 0,1,2"), start="A")
    assert set(windows(grammar, 10, 3)) == {(0, 1, 2)}
    with pytest.raises(ValueError, match="text of 4 letters from a grammar whose shortest string has 3"):
        windows(grammar, 10, 4)
