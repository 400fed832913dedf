"""How visible is "unsafe" to a reader that counts n-grams: of the text, of the tasks, of both?

A reader is a naive Bayes classifier of safe and unsafe requests. It sees what stands in the prompt and nothing else:
no reader is told the grammar or the branch. In each class a letter, or a task token, is drawn given its *context*,

    log-odds = Σ log (u(c, x) + 1/V) / (u(c) + 1)  −  log (s(c, x) + 1/V) / (s(c) + 1),

where u and s count what followed context c in unsafe and in safe requests and V is the number of distinct symbols:
each context starts with one count, spread evenly (Perks 1947). A context that neither class showed adds nothing, a
symbol that is new after a known context its smoothed value. The classes are equally likely. The context of

    text   a letter is the n − 1 letters before it (the first n − 1 letters of a text are context only);
    tasks  a task token is its slot and the up to n − 1 tokens before it;
    both   as in tasks, and besides, for each slot, a letter has the task token there and the n − 1 letters before it:
           a reader of the combination, which the sum of a reader of text and one of tasks could not be.

At n = 1 the reader of text is scikit-learn's MultinomialNB (alpha 1/V), at n > 1 one for each context.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from synthetic.draws import Draws
from synthetic.world import Requests, World

if TYPE_CHECKING:
    from synthetic.composition import CompositionWorld

READERS = ("text", "tasks", "both")
_BITS = 6  # of one symbol; an n-gram, its task and its slot are packed into one integer of 63 bits
_LONGEST = 63 // _BITS - 1
_START = 2**_BITS - 1  # stands for the symbols before the first; also a mask for the last symbol of an n-gram


@dataclass(frozen=True)
class _Table:
    """Log-odds of events (a symbol after its context) and of contexts, by sorted code."""

    events: np.ndarray
    event_log_odds: np.ndarray
    contexts: np.ndarray
    context_log_odds: np.ndarray

    @classmethod
    def of(cls, safe: np.ndarray, unsafe: np.ndarray) -> _Table:
        """From the codes of events, -1 where absent."""
        n_symbols = len(np.unique(np.concatenate([safe[safe >= 0], unsafe[unsafe >= 0]]) & _START))
        of_events = _log_odds_by_code(safe, unsafe, prior=1 / max(n_symbols, 1))
        return cls(*of_events, *_log_odds_by_code(safe >> _BITS, unsafe >> _BITS, prior=1.0))

    def log_odds(self, codes: np.ndarray) -> np.ndarray:
        """(n,) sums over the events of each row of codes, (n, events)."""
        of_events = _look_up(self.events, self.event_log_odds, codes)
        return (of_events - _look_up(self.contexts, self.context_log_odds, codes >> _BITS)).sum(axis=1)


@dataclass(frozen=True)
class Reader:
    """A fitted reader of n-grams of order `n`; `reader` is one of READERS."""

    reader: str
    n: int
    _tables: tuple[_Table, ...]

    def log_odds(self, requests: Requests) -> np.ndarray:
        """(n,) log-odds, in nats, that each request is unsafe rather than safe."""
        parts = _codes(self.reader, self.n, requests)
        return np.sum(
            [table.log_odds(codes) for table, codes in zip(self._tables, parts, strict=True)], axis=0
        )


def fit(reader: str, n: int, safe: Requests, unsafe: Requests) -> Reader:
    """A reader of order `n` learnt from safe and unsafe requests; which is which is said by the argument alone.

    Reads the columns `text`, (n, letters), and `tasks`, (n, slots), of `truth`: numbers of symbols, -1 where absent.
    Raises ValueError for an unknown reader, an order outside 1 … 9, a symbol above 62 or requests without that column.
    """
    if reader not in READERS:
        raise ValueError(f"reader {reader!r}: expected one of {', '.join(READERS)}")
    parts = zip(_codes(reader, n, safe), _codes(reader, n, unsafe), strict=True)
    return Reader(reader, n, tuple(_Table.of(*codes) for codes in parts))


def auroc(*, positive: np.ndarray, negative: np.ndarray) -> float:
    """Probability that a score of `positive`, (p,), exceeds one of `negative`, (n,); ties count half."""
    ordered = np.sort(negative)
    below = np.searchsorted(ordered, positive, "left") + np.searchsorted(ordered, positive, "right")
    return float(below.mean() / (2 * len(negative)))


def detectability(
    world: World, *, n_requests: int = 2000, seed: int = 0, orders: Sequence[int] = (1, 2, 3, 4, 5, 6)
) -> list[dict[str, Any]]:
    """How each family of a world but the pretraining ones looks to each reader of each order.

    The readers learn from the first `n_requests` of `safe` and of `unsafe` (split `train`): a safe request and its
    unsafe twin of the same number share their text, as in safety tuning (Jain et al. 2024), so that what the text
    alone tells is not drowned by which texts happened to be drawn. They judge the `n_requests` that follow (split
    `any`, whose texts a small world may have shown before).

    Rows: family, reader, n; called_unsafe, the share with log-odds above 0; auroc, against `safe`, or against
    `context_safe` for the families `context_*`, whose tasks are matched. Ties count half in both: a reader that has
    nothing to go by scores 0.5. Raises ValueError where `fit` or `world.sample` does.
    """
    train = [world.sample(name, n_requests, seed=seed, split="train") for name in ("safe", "unsafe")]
    readers = [fit(reader, n, *train) for reader in READERS for n in orders]
    families = [name for name in world.families if not name.startswith("pretraining")]
    scores = {}
    for name in families:
        judged = world.sample(name, n_requests, seed=seed, start=n_requests, split="any")
        scores[name] = [reader.log_odds(judged) for reader in readers]
    rows: list[dict[str, Any]] = []
    for name in families:
        control = scores["context_safe" if name.startswith("context_") else "safe"]
        for reader, own, safe in zip(readers, scores[name], control, strict=True):
            called, order = auroc(positive=own, negative=np.zeros(1)), auroc(positive=own, negative=safe)
            rows.append(
                {
                    "family": name,
                    "reader": reader.reader,
                    "n": reader.n,
                    "called_unsafe": called,
                    "auroc": order,
                }
            )
    return rows


def called_safe(
    world: CompositionWorld, grammar: int, n: int, *, n_windows: int = 8000, seed: int = 0
) -> dict[str, float]:
    """Share of the windows of each branch of one grammar (from 0) that a reader of the text calls safe.

    The reader knows `n_windows` windows of the branch `safe` and as many of `unsafe`; others are judged. This is the
    table of the reference on Jain et al. 2024, §1.7, its columns in the same order under the names of the branches
    here. Draws of 8000 windows differ: standard deviation up to .001 at n = 6, .003 to .005 at n = 4.
    Raises ValueError for a grammar that the world lacks, or an order out of range.
    """
    if not 0 <= grammar < world.n_grammars:
        raise ValueError(
            f"grammar = {grammar}: expected 0 to {world.n_grammars - 1}, the grammars of the world"
        )
    _check_order(n)
    low, high = world.config.text_length

    def codes(branch: str, start: int) -> np.ndarray:
        draws = Draws(seed, np.arange(start, start + n_windows))
        length = low + draws.integers("length", 1, high - low + 1)[:, 0]
        return _ngrams(world.grammars[branch, grammar].sample(draws, length), n)

    table = _Table.of(codes("safe", 0), codes("unsafe", n_windows))
    branches = (
        "safe",
        *(b for b in ("unsafe", "full", "mixed", "heldout", "unsafe_long") if (b, 0) in world.grammars),
    )
    return {
        branch: auroc(positive=np.zeros(1), negative=table.log_odds(codes(branch, (2 + i) * n_windows)))
        for i, branch in enumerate(branches)
    }


def _codes(reader: str, n: int, requests: Requests) -> list[np.ndarray]:
    """For each table of a reader the codes of the events, (n, events), -1 where absent; the last symbol lowest."""
    _check_order(n)
    if reader == "text":
        return [_ngrams(_column(requests, "text"), n)]
    tasks = _column(requests, "tasks")
    before = np.full((len(tasks), n - 1), _START)
    rows = _ngrams(np.concatenate([before, tasks], axis=1), n)
    in_slot = np.where(rows < 0, -1, rows | np.arange(tasks.shape[1]) << _BITS * n)
    if reader == "tasks":
        return [in_slot]
    text, task = _ngrams(_column(requests, "text"), n)[:, None], tasks[:, :, None]
    crossed = np.where((task < 0) | (text < 0), -1, task << _BITS * n | text)
    return [in_slot, crossed.reshape(len(tasks), -1)]


def _check_order(n: int) -> None:
    if not 1 <= n <= _LONGEST:
        raise ValueError(
            f"n = {n}: expected 1 to {_LONGEST}, since an n-gram is packed into 63 bits; take another order"
        )


def _ngrams(rows: np.ndarray, n: int) -> np.ndarray:
    """(m, width) symbols → (m, width − n + 1) packed n-grams, -1 where a symbol is absent."""
    width = max(rows.shape[1] - n + 1, 0)
    packed, absent = np.zeros((len(rows), width), np.int64), np.zeros((len(rows), width), bool)
    for k in range(n):
        symbol = rows[:, k : k + width]
        packed, absent = packed << _BITS | symbol, absent | (symbol < 0)
    return np.where(absent, -1, packed)


def _column(requests: Requests, name: str) -> np.ndarray:
    if name not in requests.truth:
        raise ValueError(
            f"requests of {requests.family!r} have no truth {name!r}: they have {', '.join(requests.truth)}"
        )
    column = requests.truth[name].astype(np.int64)
    if column.max(initial=0) >= _START:
        raise ValueError(
            f"{name}: symbol {column.max()}: expected -1 to {_START - 1}; number the symbols anew"
        )
    return column


def _log_odds_by_code(safe: np.ndarray, unsafe: np.ndarray, *, prior: float) -> tuple[np.ndarray, np.ndarray]:
    """Sorted codes of either class and their log (unsafe count + prior) − log (safe count + prior)."""
    seen = [safe[safe >= 0], unsafe[unsafe >= 0]]
    codes = np.unique(np.concatenate(seen))
    of_safe, of_unsafe = (
        np.bincount(np.searchsorted(codes, part), minlength=len(codes)) + prior for part in seen
    )
    return codes, np.log(of_unsafe) - np.log(of_safe)


def _look_up(known: np.ndarray, values: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """The value of each code, 0 where it is absent or unknown."""
    at = np.searchsorted(known[1:], codes, "right")  # one of len(known) places, whatever the code
    return np.where(known[at] == codes, values[at], 0.0) if len(known) else np.zeros(codes.shape)
