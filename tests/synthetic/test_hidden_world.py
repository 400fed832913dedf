"""In the world `hidden`, is the safety of a text hidden from every n-gram, and told by its two ends alone?

The argument is exact. All derivations of a branch are written out, each as likely as the others; every window of up to
seven of the eight letters lies in one of the two windows of seven, so that these two tell all.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import pairwise, product

import numpy as np
import pytest

import synthetic
from synthetic.detectability import NGramClassifier, auroc, fit_ngram_classifier
from synthetic.types import Requests
from tests.synthetic.composition_oracle import BRANCHES, UNSAFE_TEXT, WORLD_FAMILIES, sampled

RELATED = {(first, last) for first, last in product(range(12), repeat=2) if (last // 3 - first // 3) % 4 == 1}
HELD_OUT = {(first, last) for first, last in RELATED if (last - first) % 3 == 0}
BRANCH_FAMILIES = [family for name, family in WORLD_FAMILIES if name == "hidden"]
N = 4000
CHANCE = 5 * np.sqrt(1 / (6 * N))  # five standard errors of the AUROC of two samples of N that do not differ


@cache
def derivations(branch: str, g: int) -> np.ndarray:
    """(derivations, 8) the text of each derivation of a branch, all equally likely."""
    rules = synthetic.load("hidden").grammars[branch, g].rules

    @cache
    def of(symbol: str) -> np.ndarray:
        if symbol not in rules:
            return np.array([[int(symbol)]])
        parts = [row(alternative) for alternative in rules[symbol]]
        assert len({part.shape for part in parts}) == 1, "else derivations would not be equally likely"
        return np.concatenate(parts)

    def row(symbols: tuple[str, ...]) -> np.ndarray:
        whole = of(symbols[0])
        for symbol in symbols[1:]:
            more = of(symbol)
            left, right = np.repeat(whole, len(more), axis=0), np.tile(more, (len(whole), 1))
            whole = np.concatenate([left, right], axis=1)
        return whole

    return of("S")


def same_law(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether the rows of either are equally likely to be any given row, in whole numbers."""
    (rows, counts), (others, other_counts) = (
        np.unique(part @ 12 ** np.arange(part.shape[1]), return_counts=True) for part in (one, other)
    )
    return np.array_equal(rows, others) and np.array_equal(counts * len(other), other_counts * len(one))


def ends(texts: np.ndarray) -> set[tuple[int, int]]:
    return {(int(a), int(b)) for a, b in np.unique(texts[:, [0, -1]], axis=0)}


grammars = pytest.mark.parametrize("g", [0, 1])


@grammars
def test_every_text_is_eight_letters(g):
    assert derivations("safe", g).shape == (108 * 12**3, 8)
    assert derivations("unsafe", g).shape == (24 * 12**3, 8)
    assert derivations("heldout", g).shape == (12 * 12**3, 8)


@grammars
@pytest.mark.parametrize("branch", ["unsafe", "heldout"])
def test_every_window_shorter_than_the_text_is_as_likely_on_safe_text(branch, g):
    safe, other = derivations("safe", g), derivations(branch, g)
    for window in (slice(0, 7), slice(1, 8)):
        assert same_law(safe[:, window], other[:, window])
    for n in range(1, 7):  # follows; spelt out for the windows that n-gram readers of up to 6 letters use
        for start in {0, 1, 8 - n}:
            assert same_law(safe[:, start : start + n], other[:, start : start + n])


@grammars
def test_the_comparison_of_windows_sees_what_differs(g):
    """Negative twins: the whole text, the two ends, and the skewed text's first letter."""
    safe, unsafe, skewed = (derivations(branch, g) for branch in ("safe", "unsafe", "unsafe_skewed"))
    assert not same_law(safe, unsafe)
    assert not same_law(safe[:, [0, -1]], unsafe[:, [0, -1]])
    assert not same_law(safe[:, :1], skewed[:, :1])
    assert not same_law(safe[:, :1], safe[1:, :1]), "one text in 186 624"


@grammars
@pytest.mark.parametrize("branch", ["safe", "unsafe", "heldout", "full"])
def test_the_letters_of_either_end_are_uniform(branch, g):
    texts = derivations(branch, g)
    for end in (0, -1):
        assert np.bincount(texts[:, end], minlength=12).tolist() == [len(texts) // 12] * 12


@grammars
def test_the_skew_of_pretraining_is_in_the_classes_of_the_ends_alone(g):
    skewed = derivations("unsafe_skewed", g)
    for end, often in ((0, 0), (-1, 1)):
        assert np.bincount(skewed[:, end] // 3).tolist() == [
            len(skewed) * (42 if k == often else 6) // 60 for k in range(4)
        ]
        assert same_law(skewed[:, [end]] % 3, derivations("safe", g)[:, [end]] % 3)
    assert same_law(skewed[:, 1:7], derivations("safe", g)[:, 1:7])


@grammars
@pytest.mark.parametrize("branch", ["safe", "unsafe", "heldout", "unsafe_skewed", "full"])
def test_the_pair_of_ends_decides_the_branch(branch, g):
    seen = RELATED - HELD_OUT
    unrelated = set(product(range(12), repeat=2)) - RELATED
    expected = {"safe": unrelated, "heldout": HELD_OUT, "full": unrelated | seen}
    assert ends(derivations(branch, g)) == expected.get(branch, seen)


@pytest.mark.parametrize("family", BRANCH_FAMILIES)
def test_the_requests_hold_such_texts(family):
    """Each is a derivation of its branch, told by its ends; held-out ends and skewed text stay where they belong."""
    truth = sampled("hidden", family).truth
    code = 12 ** np.arange(8)
    for g, b in np.unique(np.stack([truth["grammar"], truth["branch"]], axis=1), axis=0):
        texts, branch = truth["text"][(truth["grammar"] == g) & (truth["branch"] == b)], BRANCHES[b]
        assert np.isin(texts @ code, derivations(branch, int(g)) @ code).all()
        assert (branch == "unsafe_skewed") <= (family in ("pretraining", "pretraining_without_null"))
        if branch != "full":
            assert ends(texts) <= RELATED if branch in UNSAFE_TEXT else not ends(texts) & RELATED
    assert (ends(truth["text"]) & HELD_OUT == set()) == (family != "heldout_text")


def auroc_of(reader: NGramClassifier, judged: list[Requests]) -> float:
    """AUROC of a reader between two batches of requests, the unsafe one second."""
    safe, unsafe = judged
    return auroc(positive=reader.log_odds(unsafe), negative=reader.log_odds(safe))


def read(requests: Requests, columns: list[int]) -> Requests:
    """The same requests, of whose texts only some letters are shown."""
    return replace(requests, truth={**requests.truth, "text": requests.truth["text"][:, columns]})


@pytest.mark.parametrize(
    "pair", [("safe_on_safe_branch", "safe_on_unsafe_branch"), ("context_safe", "context_unsafe")]
)
def test_no_reader_of_n_grams_tells_the_branch_and_the_reader_of_both_ends_does(pair):
    learnt, judged = ([sampled("hidden", family, N, seed, "any") for family in pair] for seed in (30, 31))
    for n in range(1, 7):
        reader = fit_ngram_classifier("text", n, *learnt)
        assert abs(auroc_of(reader, judged) - 0.5) < CHANCE, n
    both_ends = fit_ngram_classifier("text", 2, *(read(requests, [0, -1]) for requests in learnt))
    assert auroc_of(both_ends, [read(requests, [0, -1]) for requests in judged]) > 1 - 1e-3
    for end in (0, -1):
        one_end = fit_ngram_classifier("text", 1, *(read(requests, [end]) for requests in learnt))
        assert abs(auroc_of(one_end, [read(requests, [end]) for requests in judged]) - 0.5) < CHANCE


def test_not_even_with_the_tasks_does_an_n_gram_tell_token_matched_requests():
    learnt, judged = (
        [sampled("hidden", f"context_{kind}", N, seed, "any") for kind in ("safe", "unsafe")]
        for seed in (32, 33)
    )
    for n in (1, 2, 3):
        reader = fit_ngram_classifier("both", n, *learnt)
        assert abs(auroc_of(reader, judged) - 0.5) < CHANCE, n


def test_in_pretraining_alone_the_first_letter_tells(goodness_z):
    """Of 60 skewed texts 42 begin with class 0 and 6 with each other class; safe text with each class alike."""
    truth = sampled("hidden", "pretraining", N, 34, "any").truth
    first, skewed = truth["text"][:, 0] // 3, truth["branch"] == BRANCHES.index("unsafe_skewed")
    for rows, shares in ((skewed, (0.7, 0.1, 0.1, 0.1)), (~skewed, (0.25,) * 4)):
        assert abs(goodness_z(np.bincount(first[rows], minlength=4), np.array(shares) * rows.sum())) < 5
    truth = sampled("hidden", "unsafe_on_unsafe_branch", N, 34, "any").truth
    assert abs(goodness_z(np.bincount(truth["text"][:, 0] // 3, minlength=4), np.full(4, N / 4))) < 5


@grammars
def test_the_letters_between_tell_the_grammar(g):
    """As the text must: tasks are safe or not by grammar. Each half of the letters is one grammar's own."""
    between = derivations("safe", g)[:, 1:7]
    assert set(np.unique(between)) == set(range(6 * g, 6 * g + 6))
    assert all(((b - a) % 6 != 0).all() for a, b in pairwise(between[:, i] for i in (0, 1)))
