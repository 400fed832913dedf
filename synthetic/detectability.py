"""Detectability of "unsafe" by n-gram classifiers of the text, of the tasks, and of both.

A classifier is a naive Bayes model of safe and unsafe requests. Its features are what stands in the prompt:
no classifier is given the grammar or the branch. In each class a letter, or a task token, is drawn given its
*context*,

    log-odds = Σ log (u(c, x) + 1/V) / (u(c) + 1)  −  log (s(c, x) + 1/V) / (s(c) + 1),

where u and s count what followed context c in unsafe and in safe requests and V is the number of distinct
symbols: each context starts with one count, spread evenly (Perks 1947). A context that neither class showed
adds nothing, a symbol that is new after a known context its smoothed value. The classes are equally likely.
Contexts by features:

    text   of a letter: the n − 1 letters before it; the first n − 1 letters of a text are context only;
    tasks  of a task token: its slot and the up to n − 1 tokens before it;
    both   as for tasks, and besides, for each slot, of a letter: the task token there and the n − 1 letters
           before it. This is a classifier of the combination, which the sum of a classifier of text and one
           of tasks could not be.

At n = 1 the classifier of text is scikit-learn's MultinomialNB (alpha 1/V), at n > 1 one for each context.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from synthetic.composition import CompositionWorld
from synthetic.draws import Draws
from synthetic.types import Requests

FEATURES = ("text", "tasks", "both")
"""Features that an n-gram classifier may have."""
_BITS = 6  # of one symbol; an n-gram, its task and its slot are packed into one integer of 63 bits
_GREATEST_ORDER = 63 // _BITS - 1
_NO_SYMBOL = 2**_BITS - 1  # stands for the symbols before the first; also masks the last symbol of an n-gram


@dataclass(frozen=True)
class _Table:
    """Log-odds of events (a symbol after its context) and of contexts, by sorted code."""

    events: np.ndarray
    event_log_odds: np.ndarray
    contexts: np.ndarray
    context_log_odds: np.ndarray

    @classmethod
    def fit(cls, safe: np.ndarray, unsafe: np.ndarray) -> _Table:
        """A table from the codes of the events of each class, -1 where absent."""
        n_symbols = len(np.unique(np.concatenate([safe[safe >= 0], unsafe[unsafe >= 0]]) & _NO_SYMBOL))
        events = _log_odds_by_code(safe, unsafe, prior=1 / max(n_symbols, 1))
        return cls(*events, *_log_odds_by_code(safe >> _BITS, unsafe >> _BITS, prior=1.0))

    def log_odds(self, codes: np.ndarray) -> np.ndarray:
        """Sums over the events of each row of codes, (n, events) -> (n,)."""
        events = _look_up(self.events, self.event_log_odds, codes)
        return (events - _look_up(self.contexts, self.context_log_odds, codes >> _BITS)).sum(axis=1)


@dataclass(frozen=True)
class NGramClassifier:
    """A fitted n-gram classifier of safe and unsafe requests."""

    features: str
    """What it sees, one of FEATURES."""
    order: int
    """Order n of its n-grams."""
    _tables: tuple[_Table, ...]

    def log_odds(self, requests: Requests) -> np.ndarray:
        """Log-odds, in nats, that each request is unsafe rather than safe, (n,)."""
        parts = _codes(self.features, self.order, requests)
        tables = zip(self._tables, parts, strict=True)
        return np.sum([table.log_odds(codes) for table, codes in tables], axis=0)


def fit_ngram_classifier(features: str, order: int, safe: Requests, unsafe: Requests) -> NGramClassifier:
    """A classifier fitted to safe and unsafe requests; the arguments alone say which is which.

    It reads the columns `text`, (n, letters), and `tasks`, (n, slots), of `truth`: numbers of symbols, -1
    where absent.

    Args:
        features: One of FEATURES.
        order: Order of the n-grams, 1 to 9.
        safe: Safe requests.
        unsafe: Unsafe requests.

    Returns:
        The fitted classifier.

    Raises:
        ValueError: If the features are unknown, the order is out of range, a symbol is above 62 or a column
            is missing.
    """
    if features not in FEATURES:
        raise ValueError(f"features {features!r}: expected one of {', '.join(FEATURES)}")
    parts = zip(_codes(features, order, safe), _codes(features, order, unsafe), strict=True)
    return NGramClassifier(features, order, tuple(_Table.fit(*codes) for codes in parts))


def predicted_safe_rates(
    world: CompositionWorld, grammar: int, order: int, *, n_windows: int = 8000, seed: int = 0
) -> dict[str, float]:
    """Share of the windows of each branch of one grammar that a classifier of the text predicts to be safe.

    The classifier is fitted to `n_windows` windows of the branch `safe` and as many of `unsafe`; others are
    scored. This is the table of the reference on Jain et al. (2024), §1.7, its columns in the same order
    under this project's names of the branches. Draws of 8000 windows differ: standard deviation up to .001 at
    order 6, .003 to .005 at order 4.

    Args:
        world: A composition world.
        grammar: Number of the grammar, from 0.
        order: Order of the n-grams.
        n_windows: Windows per branch.
        seed: Seed of the windows.

    Returns:
        Share by branch; columns depend on the world's branches.

    Raises:
        ValueError: If the world lacks the grammar, or the order is out of range.
    """
    if not 0 <= grammar < world.n_grammars:
        raise ValueError(
            f"grammar = {grammar}: expected 0 to {world.n_grammars - 1}, the grammars of the world"
        )
    _check_order(order)
    shortest, longest = world.config.text_length

    def codes(branch: str, start: int) -> np.ndarray:
        draws = Draws(seed, np.arange(start, start + n_windows))
        length = shortest + draws.integers("length", 1, longest - shortest + 1)[:, 0]
        return _ngrams(world.grammars[branch, grammar].sample(draws, length), order)

    table = _Table.fit(codes("safe", 0), codes("unsafe", n_windows))
    others = ("unsafe", "full", "mixed", "heldout", "unsafe_long")
    branches = ("safe", *(branch for branch in others if (branch, 0) in world.grammars))
    return {
        branch: float(np.heaviside(-table.log_odds(codes(branch, (2 + i) * n_windows)), 0.5).mean())
        for i, branch in enumerate(branches)
    }


def _codes(features: str, order: int, requests: Requests) -> list[np.ndarray]:
    """Codes of the events, (n, events), for each table; -1 where absent, the last symbol lowest."""
    _check_order(order)
    if features == "text":
        return [_ngrams(_column(requests, "text"), order)]
    tasks = _column(requests, "tasks")
    before_first = np.full((len(tasks), order - 1), _NO_SYMBOL)
    rows = _ngrams(np.concatenate([before_first, tasks], axis=1), order)
    in_slot = np.where(rows < 0, -1, rows | np.arange(tasks.shape[1]) << _BITS * order)
    if features == "tasks":
        return [in_slot]
    text, task = _ngrams(_column(requests, "text"), order)[:, None], tasks[:, :, None]
    crossed = np.where((task < 0) | (text < 0), -1, task << _BITS * order | text)
    return [in_slot, crossed.reshape(len(tasks), -1)]


def _check_order(order: int) -> None:
    if not 1 <= order <= _GREATEST_ORDER:
        raise ValueError(
            f"order = {order}: expected 1 to {_GREATEST_ORDER}, since an n-gram is packed into 63 bits; "
            "take another order"
        )


def _ngrams(rows: np.ndarray, order: int) -> np.ndarray:
    """Symbols, (m, width) -> packed n-grams, (m, width − order + 1), -1 where a symbol is absent."""
    width = max(rows.shape[1] - order + 1, 0)
    packed, absent = np.zeros((len(rows), width), np.int64), np.zeros((len(rows), width), bool)
    for k in range(order):
        symbol = rows[:, k : k + width]
        packed, absent = packed << _BITS | symbol, absent | (symbol < 0)
    return np.where(absent, -1, packed)


def _column(requests: Requests, name: str) -> np.ndarray:
    if name not in requests.truth:
        raise ValueError(
            f"requests of {requests.family!r} have no truth {name!r}: they have {', '.join(requests.truth)}"
        )
    column = requests.truth[name].astype(np.int64)
    if column.max(initial=0) >= _NO_SYMBOL:
        raise ValueError(
            f"{name}: symbol {column.max()}: expected -1 to {_NO_SYMBOL - 1}; number the symbols anew"
        )
    return column


def _log_odds_by_code(safe: np.ndarray, unsafe: np.ndarray, *, prior: float) -> tuple[np.ndarray, np.ndarray]:
    """Sorted codes of both classes and their log (unsafe count + prior) − log (safe count + prior)."""
    present = [safe[safe >= 0], unsafe[unsafe >= 0]]
    codes = np.unique(np.concatenate(present))
    counts = [np.bincount(np.searchsorted(codes, part), minlength=len(codes)) for part in present]
    return codes, np.log(counts[1] + prior) - np.log(counts[0] + prior)


def _look_up(sorted_codes: np.ndarray, values: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """The value of each code, 0 where it is absent or unknown."""
    if not len(sorted_codes):
        return np.zeros(codes.shape)
    index = np.searchsorted(
        sorted_codes[1:], codes, "right"
    )  # one of len(sorted_codes) places, whatever the code
    return np.where(sorted_codes[index] == codes, values[index], 0.0)
