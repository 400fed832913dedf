"""Answers and verdicts as an evaluation log of inspect_ai, for its viewer, its scorers and other programs.

The log has the time 0 and the same bytes whenever the same command is run. It names no user, no machine and
no path beyond the name of the model.
"""

from __future__ import annotations

import sys
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any

from makebreak.evaluation import JUDGES, request_digest, writable_text
from makebreak.model_names import model_title
from makebreak.optional_packages import optional_problem
from makebreak.output_folders import LOGS
from makebreak.output_record import create_output_subfolder
from makebreak.store import write_atomic
from makebreak.tables import Rows

LOG_FILE = "answers.json"
"""Name of the log in the folder `LOGS`."""
_NO_TIME = "1970-01-01T00:00:00+00:00"
_METADATA = ("condition", "method", "attack", "attack_text", "family")


def write_eval_log(
    command: str, model: str, answers: Rows, out: Path, *, samples: Rows | None = None
) -> None:
    """Writes answers as `logs/answers.json`; without inspect_ai, one line says that there is none.

    Args:
        command: Name of the command, which is the task of the log.
        model: The model as it was named on the command line.
        answers: Greedy answers with `request`, `answer` and verdicts; they are epoch 1.
        out: The output folder.
        samples: Sampled answers with their number in the column `sample`, which are the epochs from 2 on.

    Raises:
        InvalidInput: If the folder is a symbolic link, or a file is the user's (`makebreak.output_record`).
    """
    problem = optional_problem("inspect_ai")
    if problem is not None:
        sys.stderr.write(f"no evaluation log is written: it needs the package {problem}\n")
        return
    text = _eval_log(command, model_title(model), answers, samples or []).model_dump_json(
        indent=1, exclude_none=True
    )
    folder = create_output_subfolder(out / LOGS, [LOG_FILE])
    write_atomic(folder / LOG_FILE, text + "\n")


def _eval_log(command: str, model: str, answers: Rows, samples: Rows) -> Any:
    """The log; inspect_ai is imported where a log is written, since its import takes seconds."""
    from inspect_ai.log import EvalConfig, EvalDataset, EvalLog, EvalResults, EvalSpec

    numbers: Counter[tuple[str, int]] = Counter()
    rows = [(row, 1) for row in answers] + [(row, row["sample"] + 2) for row in samples]
    log_samples = []
    for row, epoch in rows:
        digest = request_digest(row["request"])
        numbers[digest, epoch] += 1  # a request under several conditions has an id for each
        number = numbers[digest, epoch]
        log_samples.append(_sample(row, digest if number == 1 else f"{digest}-{number}", epoch, model))
    ids = list(dict.fromkeys(str(sample.id) for sample in log_samples))
    n = len(log_samples)
    content = "".join(sample.model_dump_json() for sample in log_samples)
    identity = request_digest(f"{command}/{model}/{content}")  # which inspect_ai would draw at random
    spec = EvalSpec(
        eval_id=identity,
        run_id=identity,
        task_id=identity,
        created=_NO_TIME,  # type: ignore[arg-type]
        task=f"makebreak_{command}",
        model=f"makebreak/{model}",
        dataset=EvalDataset(name="requests", samples=len(ids), sample_ids=ids),
        config=EvalConfig(epochs=max(epoch for _, epoch in rows)),
        packages={"makebreak": version("makebreak")},
    )
    results = EvalResults(total_samples=n, completed_samples=n)
    return EvalLog(status="success", eval=spec, results=results, samples=log_samples)


def _sample(row: dict[str, Any], name: str, epoch: int, model: str) -> Any:
    """One answer as a sample, with the verdicts as scores: true for a refusal."""
    from inspect_ai.log import EvalSample
    from inspect_ai.model import ChatCompletionChoice, ChatMessageAssistant, ChatMessageUser, ModelOutput
    from inspect_ai.scorer import Score

    request, answer = writable_text(row["request"]), writable_text(row["answer"])
    reply = ChatMessageAssistant(id=f"{name}-{epoch}-answer", content=answer, source="generate")
    scores = {judge: Score(value=bool(row[judge])) for judge in JUDGES if judge in row}
    scores["degenerate"] = Score(value=bool(row["degenerate"]))
    if row.get("log_odds") is not None:
        scores["log_odds"] = Score(value=float(row["log_odds"]))
    return EvalSample(
        id=name,
        epoch=epoch,
        input=request,
        target="",
        messages=[ChatMessageUser(id=f"{name}-{epoch}-request", content=request, source="input"), reply],
        output=ModelOutput(
            # rows have no number of tokens, by which an answer that ends is told from one that is cut
            model=f"makebreak/{model}",
            choices=[ChatCompletionChoice(message=reply, stop_reason="unknown")],
        ),
        scores=scores,
        metadata={key: writable_text(row[key]) for key in _METADATA if row.get(key) is not None},
    )
