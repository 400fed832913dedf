"""Tests of the n-gram classifiers: planted features, negative controls, and the table of the reference."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import pytest
from sklearn.naive_bayes import MultinomialNB

from makebreak.stats import auroc
from synthetic.detectability import FEATURES, fit_ngram_classifier, predicted_safe_rates
from synthetic.types import Requests

# Reference on Jain et al. 2024, §1.7: (grammar, n) → share called safe. Branches in the order of the table.
BRANCHES = ("safe", "unsafe", "full", "mixed", "heldout", "unsafe_long")
TABLE = {
    (1, 6): (1.000, 0.004, 1.000, 0.999, 0.012, 0.004),
    (2, 6): (0.999, 0.009, 0.996, 0.994, 0.018, 0.009),
    (3, 6): (0.998, 0.004, 0.999, 0.999, 0.018, 0.005),
    (4, 6): (1.000, 0.003, 0.996, 0.995, 0.019, 0.005),
    (1, 4): (0.966, 0.057, 0.958, 0.959, 0.084, 0.047),
}
N = 2000
CHANCE = 5 * np.sqrt(1 / (6 * N))  # five standard errors of the AUROC of two samples of N that do not differ


def requests(text: np.ndarray, tasks: np.ndarray) -> Requests:
    """Requests in which only the features of a classifier are filled in."""
    rows = np.zeros((len(text), 1), np.int64)
    return Requests(
        "planted", 0, rows, rows[:, 0], rows, rows, rows, rows[:, 0] > 0, {}, {"text": text, "tasks": tasks}
    )


def area(reader: str, n: int, learnt: tuple[Requests, Requests], judged: tuple[Requests, Requests]) -> float:
    fitted = fit_ngram_classifier(reader, n, *learnt)
    return auroc(positive=fitted.log_odds(judged[1]), negative=fitted.log_odds(judged[0]))


def with_bigram(rng: np.random.Generator, *, unsafe: bool) -> Requests:
    """In noise somewhere 0 1 if unsafe, 1 0 if safe: the letters are the same, the bigram differs."""
    text, at = rng.integers(2, 6, (N, 8)), rng.integers(0, 7, N)
    text[np.arange(N), at], text[np.arange(N), at + 1] = (0, 1) if unsafe else (1, 0)
    return requests(text, rng.integers(0, 5, (N, 2)))


def xor(rng: np.random.Generator, *, unsafe: bool) -> Requests:
    """The task of one slot and one letter are both 0 or both 1 in safe requests, unequal in unsafe ones."""
    task = rng.integers(0, 2, N)
    text, tasks = rng.integers(2, 6, (N, 6)), rng.integers(2, 6, (N, 2))
    text[np.arange(N), rng.integers(0, 6, N)] = task ^ unsafe
    tasks[np.arange(N), rng.integers(0, 2, N)] = task
    return requests(text, tasks)


def pairs(plant, seed: int) -> tuple[tuple[Requests, Requests], tuple[Requests, Requests]]:
    """(safe, unsafe) to learn from and (safe, unsafe) to judge."""
    rng = np.random.default_rng(seed)
    learnt, judged = ((plant(rng, unsafe=False), plant(rng, unsafe=True)) for _ in range(2))
    return learnt, judged


@pytest.mark.parametrize(("grammar", "n"), TABLE)
def test_table_of_the_reference(jain, grammar, n):
    """Within one point; at n = 4 draws of 8000 windows differ by half a point, so more are averaged."""
    draws = [predicted_safe_rates(jain, grammar - 1, n, seed=seed) for seed in range(16 if n == 4 else 2)]
    share = [np.mean([draw[branch] for draw in draws]) for branch in BRANCHES]
    np.testing.assert_allclose(share, TABLE[grammar, n], rtol=0, atol=0.01)


def test_single_letters_hardly_separate_branches(jain):
    """Negative control: a classifier of order 1 does not give that table."""
    share = predicted_safe_rates(jain, 0, 1, n_windows=2000)
    assert share["safe"] < 0.9
    assert share["unsafe"] > 0.1


@pytest.mark.parametrize("n", [1, 2, 3])
def test_planted_bigram_is_detected_from_order_2(n):
    """A planted bigram is invisible at order 1 and detected from order 2 on."""
    expected = area("text", n, *pairs(with_bigram, 0))
    assert expected == pytest.approx(0.5 if n == 1 else 1.0, abs=CHANCE if n == 1 else 1e-3)
    assert abs(area("tasks", n, *pairs(with_bigram, 0)) - 0.5) < CHANCE


def test_only_both_features_detect_a_combination():
    """A planted combination of task and letter is detected by `both` alone."""
    areas = {reader: area(reader, 1, *pairs(xor, 1)) for reader in FEATURES}
    assert areas["both"] > 0.95
    assert max(abs(areas["text"] - 0.5), abs(areas["tasks"] - 0.5)) < CHANCE


@pytest.mark.parametrize("reader", FEATURES)
@pytest.mark.parametrize("plant", [with_bigram, xor])
def test_shuffled_labels_give_chance(reader, plant):
    """Negative control: both fitted classes hold the same mixture, and both scored ones do."""
    rng = np.random.default_rng(2)
    parts = [plant(rng, unsafe=bool(i % 2)) for i in range(4)]
    columns = [np.concatenate([part.truth[name] for part in parts]) for name in ("text", "tasks")]
    order = rng.permutation(4 * N)
    shuffled = [requests(*(column[order[i::4]] for column in columns)) for i in range(4)]
    assert abs(area(reader, 2, (shuffled[0], shuffled[1]), (shuffled[2], shuffled[3])) - 0.5) < CHANCE


def events(reader: str, n: int, text: list[int], tasks: list[int]) -> list[list[tuple[tuple, int]]]:
    """Pairs (context, symbol) of one request for each table, by the definition and without arrays."""
    grams = [(tuple(text[i : i + n - 1]), text[i + n - 1]) for i in range(len(text) - n + 1)]
    in_slot = [(("slot", s, *tasks[max(0, s - n + 1) : s]), task) for s, task in enumerate(tasks)]
    crossed = [((task, *context), letter) for task in tasks for context, letter in grams]
    return {"text": [grams], "tasks": [in_slot], "both": [in_slot, crossed]}[reader]


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("reader", FEATURES)
def test_log_odds_match_multinomial_naive_bayes(reader, n):
    """Oracle: scikit-learn's MultinomialNB on the counts of what follows each context."""
    rng = np.random.default_rng(3)

    def sample(m: int, high: int) -> Requests:
        text = rng.integers(0, high, (m, 7))
        text[np.arange(7) >= rng.integers(3, 8, m)[:, None]] = -1
        return requests(text, rng.integers(0, high, (m, 3)))

    safe, unsafe, judged = sample(6, 3), sample(9, 4), sample(20, 4)
    lists = [
        [
            events(reader, n, [x for x in text if x >= 0], tasks)
            for text, tasks in zip(r.truth["text"].tolist(), r.truth["tasks"].tolist(), strict=True)
        ]
        for r in (safe, unsafe, judged)
    ]
    expected = np.zeros(len(judged))
    for part in range(len(lists[0][0])):
        counts = [defaultdict(Counter), defaultdict(Counter)]
        for label in (0, 1):
            for request in lists[label]:
                for context, symbol in request[part]:
                    counts[label][context][symbol] += 1
        symbols = sorted({s for by_context in counts for c in by_context.values() for s in c})
        for context in {*counts[0], *counts[1]}:
            table = np.array([[counts[label][context][s] for s in symbols] for label in (0, 1)])
            model = MultinomialNB(alpha=1 / len(symbols), fit_prior=False).fit(table, [0, 1])
            follow = [Counter(s for c, s in request[part] if c == context) for request in lists[2]]
            rows = np.array([[f[s] for s in symbols] for f in follow])
            expected += rows @ (model.feature_log_prob_[1] - model.feature_log_prob_[0])
    np.testing.assert_allclose(
        fit_ngram_classifier(reader, n, safe, unsafe).log_odds(judged), expected, atol=1e-12
    )


def test_order_1_is_multinomial_naive_bayes():
    """Order 1 on text equals scikit-learn's MultinomialNB on counts of letters."""
    rng = np.random.default_rng(4)
    texts = [rng.integers(0, high, (8, 5)) for high in (5, 6, 6)]
    counts = [np.stack([(text == letter).sum(axis=1) for letter in range(6)], axis=1) for text in texts]
    model = MultinomialNB(alpha=1 / 6, fit_prior=False).fit(np.concatenate(counts[:2]), [0] * 8 + [1] * 8)
    log_proba = model.predict_log_proba(counts[2])
    safe, unsafe, judged = (requests(text, np.zeros((8, 1), np.int64)) for text in texts)
    got = fit_ngram_classifier("text", 1, safe, unsafe).log_odds(judged)
    np.testing.assert_allclose(got, log_proba[:, 1] - log_proba[:, 0], atol=1e-12)


@pytest.mark.parametrize("reader", FEATURES)
def test_log_odds_do_not_depend_on_the_batch(mini, reader):
    """Order and size of the batch do not matter, nor does the order in which requests are learnt."""
    safe, unsafe, judged = (
        mini.sample(f, 50, seed=s) for f, s in (("safe", 0), ("unsafe", 1), ("mixed_text", 2))
    )
    fitted, order = fit_ngram_classifier(reader, 3, safe, unsafe), np.random.default_rng(6).permutation(50)
    whole = fitted.log_odds(judged)
    np.testing.assert_array_equal(fitted.log_odds(judged[order]), whole[order])
    np.testing.assert_array_equal(
        np.concatenate([fitted.log_odds(judged[i : i + 1]) for i in range(50)]), whole
    )
    np.testing.assert_array_equal(
        fit_ngram_classifier(reader, 3, safe[order], unsafe[order]).log_odds(judged), whole
    )
    np.testing.assert_array_equal(fit_ngram_classifier(reader, 3, unsafe, safe).log_odds(judged), -whole)


def test_unknown_contexts_add_nothing():
    """A context that neither class showed has log-odds of zero."""
    safe, unsafe = (requests(np.array([[a, b, a]]), np.array([[0]])) for a, b in ((0, 1), (1, 0)))
    strange = requests(np.array([[7, 8, 9], [-1, -1, -1]]), np.array([[5], [-1]]))
    for n in (2, 4):  # of order 4 there is none in texts of three letters
        np.testing.assert_array_equal(
            fit_ngram_classifier("text", n, safe, unsafe).log_odds(strange), [0.0, 0.0]
        )


def test_predicted_safe_rates_are_reproducible(world):
    """The seed determines the windows."""
    assert predicted_safe_rates(world, 0, 2, n_windows=50) == predicted_safe_rates(world, 0, 2, n_windows=50)


def test_bad_arguments_are_errors(mini):
    """Errors name the value, what was expected and the remedy."""
    safe = mini.sample("safe", 5, seed=0)
    with pytest.raises(ValueError, match=r"features 'letters': expected one of text, tasks, both"):
        fit_ngram_classifier("letters", 1, safe, safe)
    for reader in FEATURES:
        for n in (-1, 0, 10):
            with pytest.raises(ValueError, match=rf"order = {n}: expected 1 to 9, .*take another order"):
                fit_ngram_classifier(reader, n, safe, safe)
    with pytest.raises(ValueError, match=r"order = 0: expected 1 to 9"):
        predicted_safe_rates(mini, 0, 0)
    with pytest.raises(ValueError, match=r"grammar = 2: expected 0 to 1"):
        predicted_safe_rates(mini, 2, 1)
    with pytest.raises(ValueError, match=r"tasks: symbol 63: expected -1 to 62; number the symbols anew"):
        fit_ngram_classifier("tasks", 1, safe, requests(np.zeros((1, 3), int), np.array([[63]])))
    with pytest.raises(ValueError, match=r"requests of 'none' have no truth 'text': they have grammar"):
        fit_ngram_classifier(
            "text",
            1,
            safe,
            Requests(**{**vars(safe), "family": "none", "truth": {"grammar": safe.truth["grammar"]}}),
        )
