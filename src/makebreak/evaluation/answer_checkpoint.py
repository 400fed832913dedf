"""Answers of the finished batches of a step, from which an interrupted step goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from makebreak.evaluation.context import check_context
from makebreak.evaluation.decisions import max_batch_size
from makebreak.models import LanguageModel
from makebreak.prompts import Requests
from makebreak.store import StateLines

ANSWERS_FILE = "answers.jsonl"
"""File in the folder of an unfinished step, with one line of answers per finished batch."""


class AnswerCheckpoint:
    """Answers that are kept batch by batch, by their prompts and the name of a condition.

    Args:
        lines: The file, to which finished batches are added.
        answers: The answers that are in the file, by key.
        condition: What distinguishes answers of one step to the same prompts, such as an intervention.
    """

    def __init__(self, lines: StateLines, answers: dict[str, str], condition: str = "") -> None:
        self._lines, self._answers, self._condition = lines, answers, condition

    @classmethod
    @contextmanager
    def open(cls, folder: Path) -> Iterator[AnswerCheckpoint]:
        """A context in which answers of a step are kept; at its end the step has them, and the file goes.

        Args:
            folder: Folder of the unfinished step; a file that an interrupted call left there is read, up to
                its first damaged line.

        Yields:
            The checkpoint. After an exception or a kill the file stays.
        """
        lines, answers = StateLines(folder / ANSWERS_FILE), {}
        for batch in lines.read():
            answers |= batch
        yield cls(lines, answers)
        lines.path.unlink(missing_ok=True)

    def under(self, condition: str) -> AnswerCheckpoint:
        """The same file for answers under another condition."""
        return AnswerCheckpoint(self._lines, self._answers, condition)

    def complete(
        self,
        lm: LanguageModel,
        requests: Requests,
        generate: Callable[[Requests], list[str]],
        *,
        n_new: int,
        progress: Callable[[int], object] | None = None,
    ) -> list[str]:
        """Answers to requests: those in the file, and the others, which are generated and added to it.

        Batches are those of `generate_texts`, so that answers are the same to the last bit whether a step was
        interrupted or not.

        Args:
            lm: The language model.
            requests: The requests.
            generate: Generates the answers to the requests of one batch.
            n_new: Most tokens of an answer.
            progress: Called with the number of requests answered, after every batch.

        Returns:
            The answers in the order of the requests.

        Raises:
            InvalidInput: If the longest request and its answer exceed the context of the model.
        """
        check_context(lm, requests, n_new)
        keys = self._keys(requests)
        order = np.argsort(requests.prompt_length, kind="stable")
        size = max_batch_size(lm.model, requests.prompt.shape[1])
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            # after a change of the memory that is free, batches may be others than before
            missing = np.array([i for i in rows.tolist() if keys[i] not in self._answers], dtype=np.int64)
            if len(missing):
                texts = generate(requests[missing])
                batch = {keys[i]: text for i, text in zip(missing.tolist(), texts, strict=True)}
                self._lines.append(batch)
                self._answers.update(batch)
            if progress is not None:
                progress(len(rows))
        return [self._answers[key] for key in keys]

    def _keys(self, requests: Requests) -> list[str]:
        """One key per request: a digest of the condition, the prompt's tokens and the sample's index."""
        samples = requests.truth.get("sample", np.zeros(len(requests), dtype=np.int64)).tolist()
        keys = []
        for ids, n, sample in zip(requests.prompt, requests.prompt_length.tolist(), samples, strict=True):
            content = json.dumps([self._condition, ids[:n].tolist(), sample])
            keys.append(hashlib.sha256(content.encode()).hexdigest()[:32])
        return keys
