"""Readers of answers find what is coded anew, and nothing in what is erased."""

from __future__ import annotations

import numpy as np

from makebreak.mechanism.answer_reader import reader_skill

N, D, LETTERS = 400, 32, 8


def states(letters: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    directions = np.linalg.qr(rng.normal(size=(D, D)))[0]
    return directions[letters]


def test_codes_and_erasure() -> None:
    """A permutation, and a turn by a number that stays in the state, can be read; a trace cannot."""
    rng = np.random.default_rng(0)
    letters, numbers = rng.integers(0, LETTERS, N), rng.integers(0, 3, N)
    base = states(letters, np.random.default_rng(1))
    permuted = states((letters * 3 + 1) % LETTERS, np.random.default_rng(1))
    number_states = states(numbers + LETTERS, np.random.default_rng(1))
    turned = states((letters + numbers) % LETTERS, np.random.default_rng(1)) + number_states
    constant = np.tile(states(np.array([9]), np.random.default_rng(1)), (N, 1))
    cases = {"permuted": permuted, "turned": turned, "trace": constant + 0.05 * base, "constant": constant}
    skills = {name: reader_skill(base, hybrid, letters, 0) for name, hybrid in cases.items()}
    assert all(skill is not None and skill.base > 0.95 for skill in skills.values())
    retained = {name: skill.hybrid for name, skill in skills.items() if skill is not None}
    assert retained["permuted"] > 0.95
    assert retained["turned"] > 0.9
    assert retained["trace"] < 0.3
    assert retained["constant"] < 0.1


def test_interval_of_the_share_that_is_left() -> None:
    """Half of the requests lose their answer: the interval has one half, and is narrower of more requests."""
    widths = []
    for n in (60, 400):
        letters = np.random.default_rng(0).integers(0, 4, n)
        base = states(letters, np.random.default_rng(1))
        half = np.where((np.arange(n) % 2 == 0)[:, None], base, base[:1] * 0)
        skill = reader_skill(base, half, letters, 0)
        assert skill is not None
        assert skill.share_low < 0.5 < skill.share_high
        widths.append(skill.share_high - skill.share_low)
        whole = reader_skill(base, base, letters, 0)
        assert whole is not None
        assert whole.share_low > 0.9
    assert widths[1] < widths[0] < 0.7


def test_one_answer_cannot_be_read() -> None:
    base = np.random.default_rng(0).normal(size=(N, D))
    assert reader_skill(base, base, np.zeros(N, dtype=np.int64), 0) is None
    assert reader_skill(base, base, np.arange(N), 0) is None, "no answer is frequent enough"
