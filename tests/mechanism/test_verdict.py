"""The verdict on all requests, from the mechanisms of single ones."""

from __future__ import annotations

import pytest

from makebreak.mechanism import NOT_JUDGED, MechanismRow, MechanismVerdict, mechanism_verdict

N_OTHERS = 400
"""Requests that do not flip, where the number decides nothing."""


def rows_of(
    gain: float = 0.9, reading: tuple[float | None, ...] = (None,) * 3, **n: int
) -> list[MechanismRow]:
    return [
        MechanismRow(0, name.replace("_", " "), gain, 4, 1, 4, None, None, *reading)
        for name, count in n.items()
        for _ in range(count)
    ]


def verdict(**n: int) -> MechanismVerdict:
    return mechanism_verdict(rows_of(**n), sum(n.values()) + N_OTHERS)


@pytest.mark.parametrize(
    ("word", "n"),
    [
        ("route", {"route": 80, "silence": 20}),
        ("mixed", {"route": 79, "silence": 21}),
        ("undecided", {"unread": 50, "unspecific": 50}),
        ("undecided", {"unread": 50, "rewrite": 50}),
        ("undecided", {"route": 60, "unspecific": 20, "silence": 20}),
        ("mixed", {"route": 60, "unspecific": 19, "silence": 21}),
        ("rewrite", {"rewrite": 80, "unread": 20}),
        ("undecided", {"unread": 90, "silence": 10}),
    ],
)
def test_open_requests_leave_a_verdict_open_only_where_they_could_decide(
    word: str, n: dict[str, int]
) -> None:
    assert verdict(**n).mechanism == word


def test_few_flips_are_not_no_change() -> None:
    """Of many requests none or few flip: no change. Of few requests that is not known."""
    cases = {(0, 300): "refusal does not change", (5, 300): "refusal does not change"}
    cases |= {(0, 20): "too few requests that flip: 0 of 20", (9, 60): "too few requests that flip: 9 of 60"}
    for (n_flips, n), reason in cases.items():
        named = mechanism_verdict(rows_of(not_judged=n_flips), n)
        assert (named.mechanism, named.reason[: len(reason)]) == ("undecided", reason)
    assert rows_of(not_judged=1)[0].mechanism == NOT_JUDGED
    gains = mechanism_verdict(rows_of(gain=-0.1, not_judged=50), 100).reason
    assert gains.startswith("too few requests to judge: 50 of 100")
    assert "in 0 of these" in gains


def test_reason_says_what_is_left_out_and_what_readers_decided() -> None:
    """A reading decides for a group: the interval over requests is not printed as that of the reading."""
    rows = rows_of(gain=-0.1, not_judged=7) + rows_of(reading=(0.9, 0.8, 1.0), rewrite=60)
    named = mechanism_verdict(rows, 100)
    assert (named.mechanism, named.shares[0].n_groups, named.shares[0].n_flips) == ("rewrite", 1, 60)
    assert "67 flip (7 of them left out" in named.reason
    assert "by one group of requests: readers keep 0.90 [0.80, 1.00]" in named.reason
    assert verdict(route=60).shares[0].n_groups is None
