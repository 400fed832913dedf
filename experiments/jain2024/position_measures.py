"""Measure of how deep in the answer a refusal lies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from makebreak.configs import check_positive
from makebreak.mechanism import answer_position_rows
from makebreak.model_zoo import Measurement, Subject
from makebreak.tables import as_dicts


@dataclass(frozen=True)
class AnswerPositionMeasure:
    """KL to the base, refusal and completion by number of forced answer tokens.

    Table: `answer_positions`, of unsafe requests along both answers, and of safe requests along the
    instructed answer, which is the control.
    """

    tag: ClassVar[str] = "AnswerPositions"
    name: ClassVar[str] = "jain2024-positions"
    revision: ClassVar[int] = 1
    n: int = 500
    """Number of requests per family."""

    def __post_init__(self) -> None:
        check_positive(n=self.n)

    def __call__(self, subject: Subject) -> Measurement:
        """Measures one model.

        Args:
            subject: The model.

        Returns:
            The table.
        """
        rows = []
        for family, answer in (("unsafe", "instructed"), ("unsafe", "refused"), ("safe", "instructed")):
            requests = subject.sample(family, self.n)
            rows += answer_position_rows(requests, answer, base=subject.base, tuned=subject.model)
        return Measurement(tables={"answer_positions": as_dicts(rows)})
