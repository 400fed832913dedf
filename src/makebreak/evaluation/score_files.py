"""Verdicts of answers that were scored elsewhere, in a log of inspect_ai or a file of precomputed scores."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from makebreak.errors import InvalidInput, name_errors, shorten

SCORE_SUFFIXES = (".eval", ".json")
"""Endings of files that `score_file_judge` reads."""
VERDICTS = {"c": True, "refusal": True, "true": True, "i": False, "compliance": False, "false": False}
"""Scores that are texts, in lower case: whether they say that an answer is a refusal. Numbers are 1 and 0."""
_REMEDY = "expected a log of inspect_ai, or its list of precomputed scores with id and value"
_SHOWN = 40
_Key = tuple[str, str | None]


def request_digest(request: str) -> str:
    """First digits of the SHA-256 of a request, with which the ids of its samples in a log begin."""
    return hashlib.sha256(request.encode(errors="surrogatepass")).hexdigest()[:16]


class ScoreFileJudge:
    """Judge that looks up the verdict of a request and its answer.

    Args:
        path: The file, for errors.
        verdicts: Whether each answer is a refusal, by digest of the request and answer; an answer of None
            stands for all answers to the request.
    """

    def __init__(self, path: Path, verdicts: dict[_Key, bool]) -> None:
        self.path, self.verdicts = path, verdicts

    def __call__(self, requests: Sequence[str], answers: Sequence[str]) -> np.ndarray:
        """Verdicts of answers, (n,) bool; InvalidInput if one has no score."""
        verdicts = []
        for request, answer in zip(requests, answers, strict=True):
            digest = request_digest(request)
            verdicts.append(self.verdicts.get((digest, answer), self.verdicts.get((digest, None))))
        missing = [i for i, verdict in enumerate(verdicts) if verdict is None]
        if missing:
            request, answer = requests[missing[0]], answers[missing[0]]
            raise InvalidInput(
                f"--judge {self.path}: {len(missing)} of {len(answers)} answers have no score, such as "
                f"{shorten(answer, _SHOWN)!r} to {shorten(request, _SHOWN)!r}: score the log that this "
                "command writes without --judge, or choose another judge"
            )
        return np.array(verdicts, dtype=bool)


def score_file_judge(path: Path, own: Collection[str]) -> ScoreFileJudge:
    """The judge that a file of scores is.

    Args:
        path: A log of inspect_ai (.eval or .json) with one score besides those that makebreak writes, or
            a JSON list of records with `id`, `value` and optionally `answer`, as for
            `inspect_ai.scorer.precomputed_scores`. The id begins with `request_digest`, as in our logs.
        own: Names of the scores that makebreak writes.

    Returns:
        The judge.

    Raises:
        InvalidInput: If the file cannot be read, has no or several scores, or a value is no verdict.
    """
    if not path.is_file():
        raise InvalidInput(f"--judge {path}: there is no such file; {_REMEDY}")
    if path.suffix == ".json":
        with name_errors(f"--judge {path}", "no scores could be read from it", _REMEDY):
            content = json.loads(path.read_bytes())
        if isinstance(content, list):
            return ScoreFileJudge(path, _from_records(path, content))
    return ScoreFileJudge(path, _from_log(path, own))


def _from_records(path: Path, records: list[Any]) -> dict[_Key, bool]:
    """Verdicts of a list of precomputed scores."""
    verdicts: dict[_Key, bool] = {}
    for i, record in enumerate(records):
        if not isinstance(record, dict) or not {"id", "value"} <= record.keys():
            raise InvalidInput(f"--judge {path}: record {i} has no id or no value; {_REMEDY}")
        answer = record.get("answer")
        if answer is None and record.get("epoch") is not None:
            raise InvalidInput(
                f"--judge {path}: record {i} is of an epoch without its answer: give the answer as well, or "
                "score the log with inspect score, and give that log"
            )
        _add(path, verdicts, (str(record["id"]).split("-")[0], answer), record["value"])
    return verdicts


def _from_log(path: Path, own: Collection[str]) -> dict[_Key, bool]:
    """Verdicts of a log, by its requests and answers."""
    if find_spec("inspect_ai") is None:
        raise InvalidInput(f"--judge {path}: a log is read by inspect_ai; pip install 'makebreak[inspect]'")
    with name_errors(f"--judge {path}", "no log could be read from it", _REMEDY):
        from inspect_ai.log import read_eval_log

        samples = read_eval_log(str(path)).samples or []
    names = sorted({name for sample in samples for name in sample.scores or {}} - set(own))
    if len(names) != 1:
        others = f"the scores {', '.join(names)}" if names else f"none of its {len(samples)} samples has such"
        raise InvalidInput(f"--judge {path}: expected one score besides makebreak's own, but found {others}")
    verdicts: dict[_Key, bool] = {}
    for sample in samples:
        score = (sample.scores or {}).get(names[0])
        if score is not None:
            request = sample.input if isinstance(sample.input, str) else sample.input[-1].text
            _add(path, verdicts, (request_digest(request), sample.output.completion), score.value)
    return verdicts


def _add(path: Path, verdicts: dict[_Key, bool], key: _Key, value: Any) -> None:
    """Adds a verdict; InvalidInput if the value is none, or contradicts another of the same answer."""
    verdict = VERDICTS.get(value.lower()) if isinstance(value, str) else None
    if isinstance(value, bool | int | float) and value in (0, 1):
        verdict = bool(value)
    if verdict is None:
        raise InvalidInput(
            f"--judge {path}: the score {value!r} is no verdict: expected C, 1, true or refusal for a "
            "refusal, and I, 0, false or compliance for any other answer"
        )
    if verdicts.setdefault(key, verdict) != verdict:
        raise InvalidInput(
            f"--judge {path}: two scores of the answer {shorten(str(key[1]), _SHOWN)!r} contradict each "
            "other: keep one"
        )
