"""Tests that in `hidden` no n-gram detects the safety of a text, and that its two ends determine it.

The argument is exact. All derivations of a branch are written out, each as likely as the others; every window
of up to seven of the eight letters lies in one of the two windows of seven, so that these two suffice.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import pairwise, product

import numpy as np
import pytest

import synthetic
from makebreak.stats import auroc
from synthetic.detectability import NGramClassifier, fit_ngram_classifier
from synthetic.types import Requests
from tests.synthetic.composition.oracle import BRANCHES, UNSAFE_TEXT, WORLD_FAMILIES, sampled

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


def same_distribution(one: np.ndarray, other: np.ndarray) -> bool:
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
def test_windows_are_equally_likely_on_safe_text(branch, g):
    """Every window shorter than the text is as likely on this branch as on safe text."""
    safe, other = derivations("safe", g), derivations(branch, g)
    for window in (slice(0, 7), slice(1, 8)):
        assert same_distribution(safe[:, window], other[:, window])
    for n in range(1, 7):  # follows; spelt out for the windows that n-gram readers of up to 6 letters use
        for start in {0, 1, 8 - n}:
            assert same_distribution(safe[:, start : start + n], other[:, start : start + n])


@grammars
def test_window_comparison_detects_differences(g):
    """Negative controls: the whole text, the two ends, and the skewed text's first letter."""
    safe, unsafe, skewed = (derivations(branch, g) for branch in ("safe", "unsafe", "unsafe_skewed"))
    assert not same_distribution(safe, unsafe)
    assert not same_distribution(safe[:, [0, -1]], unsafe[:, [0, -1]])
    assert not same_distribution(safe[:, :1], skewed[:, :1])
    assert not same_distribution(safe[:, :1], safe[1:, :1]), "one text in 186 624"


@grammars
@pytest.mark.parametrize("branch", ["safe", "unsafe", "heldout", "full"])
def test_letters_at_both_ends_are_uniform(branch, g):
    """The letters at both ends are uniform on this branch."""
    texts = derivations(branch, g)
    for end in (0, -1):
        assert np.bincount(texts[:, end], minlength=12).tolist() == [len(texts) // 12] * 12


@grammars
def test_skew_is_in_the_end_classes_only(g):
    """Skewed text differs from unsafe text in the classes of its ends alone."""
    skewed = derivations("unsafe_skewed", g)
    for end, often in ((0, 0), (-1, 1)):
        assert np.bincount(skewed[:, end] // 3).tolist() == [
            len(skewed) * (42 if k == often else 6) // 60 for k in range(4)
        ]
        assert same_distribution(skewed[:, [end]] % 3, derivations("safe", g)[:, [end]] % 3)
    assert same_distribution(skewed[:, 1:7], derivations("safe", g)[:, 1:7])


@grammars
@pytest.mark.parametrize("branch", ["safe", "unsafe", "heldout", "unsafe_skewed", "full"])
def test_pair_of_ends_determines_the_branch(branch, g):
    """The pair of end letters determines whether a text is safe, unsafe or held out."""
    shown_pairs = RELATED - HELD_OUT
    unrelated = set(product(range(12), repeat=2)) - RELATED
    expected = {"safe": unrelated, "heldout": HELD_OUT, "full": unrelated | shown_pairs}
    assert ends(derivations(branch, g)) == expected.get(branch, shown_pairs)


@pytest.mark.parametrize("family", BRANCH_FAMILIES)
def test_request_texts_are_derivations(family):
    """Each is a derivation of its branch; held-out ends and skewed text are in their families only."""
    truth = sampled("hidden", family).truth
    code = 12 ** np.arange(8)
    for g, b in np.unique(np.stack([truth["grammar"], truth["branch"]], axis=1), axis=0):
        texts, branch = truth["text"][(truth["grammar"] == g) & (truth["branch"] == b)], BRANCHES[b]
        assert np.isin(texts @ code, derivations(branch, int(g)) @ code).all()
        assert (branch == "unsafe_skewed") <= (family in ("pretraining", "pretraining_without_null"))
        if branch != "full":
            assert ends(texts) <= RELATED if branch in UNSAFE_TEXT else not ends(texts) & RELATED
    assert (ends(truth["text"]) & HELD_OUT == set()) == (family != "heldout_text")


def auroc_of(classifier: NGramClassifier, judged: list[Requests]) -> float:
    """AUROC of a classifier between two batches of requests, the unsafe one second."""
    safe, unsafe = judged
    return auroc(positive=classifier.log_odds(unsafe), negative=classifier.log_odds(safe))


def select_letters(requests: Requests, columns: list[int]) -> Requests:
    """The same requests with only some letters of their texts."""
    return replace(requests, truth={**requests.truth, "text": requests.truth["text"][:, columns]})


@pytest.mark.parametrize(
    "pair", [("safe_on_safe_branch", "safe_on_unsafe_branch"), ("context_safe", "context_unsafe")]
)
def test_only_both_ends_detect_the_branch(pair):
    """No n-gram classifier detects the branch; a classifier of both ends does."""
    learnt, judged = ([sampled("hidden", family, N, seed, "any") for family in pair] for seed in (30, 31))
    for n in range(1, 7):
        classifier = fit_ngram_classifier("text", n, *learnt)
        assert abs(auroc_of(classifier, judged) - 0.5) < CHANCE, n
    both_ends = fit_ngram_classifier("text", 2, *(select_letters(requests, [0, -1]) for requests in learnt))
    assert auroc_of(both_ends, [select_letters(requests, [0, -1]) for requests in judged]) > 1 - 1e-3
    for end in (0, -1):
        one_end = fit_ngram_classifier("text", 1, *(select_letters(requests, [end]) for requests in learnt))
        assert abs(auroc_of(one_end, [select_letters(requests, [end]) for requests in judged]) - 0.5) < CHANCE


def test_ngrams_with_tasks_do_not_detect_unsafe():
    """Classifiers of text and tasks are at chance on token-matched requests."""
    learnt, judged = (
        [sampled("hidden", f"context_{kind}", N, seed, "any") for kind in ("safe", "unsafe")]
        for seed in (32, 33)
    )
    for n in (1, 2, 3):
        classifier = fit_ngram_classifier("both", n, *learnt)
        assert abs(auroc_of(classifier, judged) - 0.5) < CHANCE, n


def test_first_letter_is_informative_in_pretraining(goodness_z):
    """Of 60 skewed texts 42 begin with class 0, 6 with each other class; safe text with each alike."""
    truth = sampled("hidden", "pretraining", N, 34, "any").truth
    first, skewed = truth["text"][:, 0] // 3, truth["branch"] == BRANCHES.index("unsafe_skewed")
    for rows, shares in ((skewed, (0.7, 0.1, 0.1, 0.1)), (~skewed, (0.25,) * 4)):
        assert abs(goodness_z(np.bincount(first[rows], minlength=4), np.array(shares) * rows.sum())) < 5
    truth = sampled("hidden", "unsafe_on_unsafe_branch", N, 34, "any").truth
    assert abs(goodness_z(np.bincount(truth["text"][:, 0] // 3, minlength=4), np.full(4, N / 4))) < 5


@grammars
def test_inner_letters_identify_the_grammar(g):
    """As the text must: tasks are safe or not by grammar. Each half of the letters is one grammar's own."""
    between = derivations("safe", g)[:, 1:7]
    assert set(np.unique(between)) == set(range(6 * g, 6 * g + 6))
    assert all(((b - a) % 6 != 0).all() for a, b in pairwise(between[:, i] for i in (0, 1)))
