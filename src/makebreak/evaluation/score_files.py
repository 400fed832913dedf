"""Verdicts of answers that were scored elsewhere, in a log of inspect_ai or a file of precomputed scores."""

from __future__ import annotations

import hashlib
import json
import sys
from collections import defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from makebreak.errors import InvalidInput, name_errors, shorten
from makebreak.optional_packages import import_optional

SCORE_SUFFIXES = (".eval", ".json")
"""Endings of files that `score_file_judge` reads, in lower case."""
VERDICTS = {"c": True, "refusal": True, "true": True, "i": False, "compliance": False, "false": False}
"""Scores that are texts, in lower case: whether they say that an answer is a refusal. Numbers are 1 and 0."""
_REMEDY = "expected a log of inspect_ai, or its list of precomputed scores with id and value"
_SHOWN = 40
_Key = tuple[str, str | None]
_Votes = dict[_Key, list[bool]]


def is_score_file(name: str) -> bool:
    """Whether the name of a judge is that of a file of scores, by its ending."""
    return Path(name).suffix.lower() in SCORE_SUFFIXES


def writable_text(text: str) -> str:
    """A text as a log holds it: lone surrogates, which UTF-8 cannot encode, are escaped."""
    return text.encode(errors="backslashreplace").decode()


def request_digest(request: str) -> str:
    """First digits of the SHA-256 of a request, with which the ids of its samples in a log begin."""
    return hashlib.sha256(writable_text(request).encode()).hexdigest()[:16]


class ScoreFileJudge:
    """Judge that looks up the verdict of a request and its answer.

    Args:
        path: The file, for errors.
        verdicts: Whether each answer is a refusal, by digest of the request and answer; an answer of None
            stands for the only answer to the request.
    """

    def __init__(self, path: Path, verdicts: dict[_Key, bool]) -> None:
        self.path, self.verdicts = path, verdicts
        self._answers: defaultdict[str, set[str]] = defaultdict(set)

    def __call__(self, requests: Sequence[str], answers: Sequence[str]) -> np.ndarray:
        """Verdicts of answers, (n,) bool.

        Args:
            requests: The requests.
            answers: Their answers.

        Returns:
            The verdicts.

        Raises:
            InvalidInput: If an answer has no score, or a score that names no answer could be that of several
                answers, of this call and the calls before it.
        """
        digests = [request_digest(request) for request in requests]
        keys = [(digest, writable_text(answer)) for digest, answer in zip(digests, answers, strict=True)]
        for digest, answer in keys:
            self._answers[digest].add(answer)
        missing: list[int] = []
        for i, (digest, _) in enumerate(keys):
            known = self._answers[digest]
            if all((digest, answer) in self.verdicts for answer in known):
                continue
            if (digest, None) in self.verdicts and len(known) > 1:
                raise InvalidInput(
                    f"--judge {self.path}: the score of {shorten(requests[i], _SHOWN)!r} names no answer, "
                    f"and the request has {len(known)} different ones: give the answer as well"
                )
            if keys[i] not in self.verdicts and (digest, None) not in self.verdicts:
                missing.append(i)
        if missing:
            first = missing[0]
            raise InvalidInput(
                f"--judge {self.path}: {len(missing)} of {len(answers)} answers have no score, such as "
                f"{shorten(answers[first], _SHOWN)!r} to {shorten(requests[first], _SHOWN)!r}: score the log "
                "that this command writes without --judge, from the same settings, or choose another judge"
            )
        return np.array(
            [self.verdicts[key if key in self.verdicts else (key[0], None)] for key in keys], dtype=bool
        )


def score_file_judge(path: Path, own: Collection[str]) -> ScoreFileJudge:
    """The judge that a file of scores is; one line says how many answers have scores that differ.

    Args:
        path: A log of inspect_ai (.eval or .json) with one score besides those that makebreak writes, or
            a JSON list of records with `id`, `value` and optionally `answer`, as for
            `inspect_ai.scorer.precomputed_scores`. The id begins with `request_digest`, as in our logs.
        own: Names of the scores that makebreak writes.

    Returns:
        The judge. Of several scores of one answer, the majority decides; a tie is no refusal.

    Raises:
        InvalidInput: If the file cannot be read, has no or several scores, or a value is no verdict.
    """
    if not path.is_file():
        raise InvalidInput(f"--judge {path}: there is no such file; {_REMEDY}")
    content = None
    if path.suffix.lower() == ".json":
        with name_errors(f"--judge {path}", "no scores could be read from it", _REMEDY):
            content = json.loads(path.read_bytes())
    votes = _from_records(path, content) if isinstance(content, list) else _from_log(path, own)
    n_different = sum(len(set(values)) > 1 for values in votes.values())
    if n_different:
        n_ties = sum(2 * sum(values) == len(values) for values in votes.values())
        sys.stderr.write(
            f"--judge {path}: {n_different} of {len(votes)} answers have scores that differ: the majority "
            f"decides, and {n_ties} ties count as no refusal\n"
        )
    return ScoreFileJudge(path, {key: 2 * sum(values) > len(values) for key, values in votes.items()})


def _from_records(path: Path, records: list[Any]) -> _Votes:
    """Scores of a list of precomputed scores."""
    votes: _Votes = defaultdict(list)
    for i, record in enumerate(records):
        if not isinstance(record, dict) or not {"id", "value"} <= record.keys():
            raise InvalidInput(f"--judge {path}: record {i} has no id or no value; {_REMEDY}")
        for name in ("id", "answer"):
            text = record.get(name)
            if not isinstance(text, str) and not (name == "answer" and text is None):
                raise InvalidInput(
                    f"--judge {path}: record {i} has the {name} {shorten(repr(text), _SHOWN)}: expected a "
                    "text, as in the log"
                )
        digest, _, number = record["id"].partition("-")
        answer = record.get("answer")
        if answer is None and (number or record.get("epoch") is not None):
            raise InvalidInput(
                f"--judge {path}: record {i} is of an epoch or a condition without its answer: give the "
                "answer as well, or score the log with inspect score, and give that log"
            )
        key = digest, answer if answer is None else writable_text(answer)
        votes[key].append(_verdict(path, record["value"]))
    return votes


def _from_log(path: Path, own: Collection[str]) -> _Votes:
    """Scores of a log, by its requests and answers."""
    logs = import_optional("inspect_ai.log", f"--judge {path}: reading a log")
    with name_errors(f"--judge {path}", "no log could be read from it", _REMEDY):
        is_json = path.suffix.lower() == ".json"
        samples = logs.read_eval_log(str(path), format="json" if is_json else "eval").samples or []
    names = sorted({name for sample in samples for name in sample.scores or {}} - set(own))
    if len(names) != 1:
        others = f"the scores {', '.join(names)}" if names else f"none of its {len(samples)} samples has such"
        raise InvalidInput(f"--judge {path}: expected one score besides makebreak's own, but found {others}")
    votes: _Votes = defaultdict(list)
    for sample in samples:
        score = (sample.scores or {}).get(names[0])
        if score is not None:
            request = sample.input if isinstance(sample.input, str) else sample.input[-1].text
            key = request_digest(request), writable_text(sample.output.completion)
            votes[key].append(_verdict(path, score.value))
    return votes


def _verdict(path: Path, value: Any) -> bool:
    """The verdict that a score is; InvalidInput if it is none."""
    verdict = VERDICTS.get(value.lower()) if isinstance(value, str) else None
    if isinstance(value, bool | int | float) and value in (0, 1):
        verdict = bool(value)
    if verdict is None:
        raise InvalidInput(
            f"--judge {path}: the score {value!r} is no verdict: expected C, 1, true or refusal for a "
            "refusal, and I, 0, false or compliance for any other answer"
        )
    return verdict
