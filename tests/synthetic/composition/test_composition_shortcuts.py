"""Tests that in `mini` the safety of a request is not visible in its tasks alone or its text alone."""

from __future__ import annotations

from collections import Counter

import numpy as np

from synthetic.types import Requests
from tests.synthetic.composition.oracle import sampled

READ = 8000


def labelled(families: tuple[str, str], seeds: tuple[int, int]) -> tuple[Requests, Requests]:
    return tuple(sampled("mini", f, READ, s) for f, s in zip(families, seeds, strict=True))


def task_accuracy(families: tuple[str, str]) -> float:
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


def text_accuracy(families: tuple[str, str], n: int) -> float:
    """Accuracy of naive Bayes over the n-grams of the text, learnt on other requests."""

    def codes(requests: Requests) -> np.ndarray:
        windows = np.lib.stride_tricks.sliding_window_view(requests.truth["text"], n, axis=1)
        return windows @ 12 ** np.arange(n)

    learnt = [np.bincount(codes(r).ravel(), minlength=12**n) + 1.0 for r in labelled(families, (20, 21))]
    evidence = np.log(learnt[1] / learnt[1].sum()) - np.log(learnt[0] / learnt[0].sum())
    scores = [evidence[codes(r)].sum(axis=1) for r in labelled(families, (22, 23))]
    return float(((scores[0] < 0).mean() + (scores[1] > 0).mean() + (scores[0] == 0).mean()) / 2)


CHANCE = 5 * 0.5 / np.sqrt(2 * READ)


def test_tasks_do_not_separate_context_requests():
    """Accuracy of the majority rule over the row of tasks is at chance."""
    assert abs(task_accuracy(("context_safe", "context_unsafe")) - 0.5) <= CHANCE


def test_tasks_separate_standard_requests():
    """Negative control: on standard requests the tasks alone are informative."""
    assert task_accuracy(("safe", "unsafe")) > 0.5 + CHANCE


def test_letters_together_identify_the_branch():
    """Naive Bayes over the letters of a text identifies its branch."""
    assert text_accuracy(("context_safe", "context_unsafe"), 1) > 0.9


def test_no_single_token_separates_safety():
    """The best rule over one position of the prompt, fitted on other requests, is near chance."""
    learnt, judged = labelled(("safe", "unsafe"), (20, 21)), labelled(("safe", "unsafe"), (22, 23))
    for at in range(learnt[0].prompt.shape[1] - 1):
        counts = [np.bincount(r.prompt[:, at], minlength=99) for r in learnt]
        votes = counts[1] > counts[0]
        right = [(votes[r.prompt[:, at]] == bool(label)).mean() for label, r in enumerate(judged)]
        assert np.mean(right) < 0.75


def test_text_does_not_separate_standard_requests():
    """Naive Bayes over letters on safe and unsafe requests of both branches, whose texts are alike."""
    assert abs(text_accuracy(("safe", "unsafe"), 4) - 0.5) <= CHANCE
