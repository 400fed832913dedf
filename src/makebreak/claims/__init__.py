"""Claims: values in natural units over seeds, six verdicts, and Holm's correction over primary claims."""

from makebreak.claims.claim import OURS, VERDICTS, Claim, NotRun, Role, Side, Tables, Value, Verdict
from makebreak.claims.evaluation import LEVEL, ClaimRow, evaluate_claims
from makebreak.claims.formatting import format_claims, format_finding, format_value
from makebreak.claims.values import by_seed, for_each_seed, rows_of

__all__ = [
    "LEVEL",
    "OURS",
    "VERDICTS",
    "Claim",
    "ClaimRow",
    "NotRun",
    "Role",
    "Side",
    "Tables",
    "Value",
    "Verdict",
    "by_seed",
    "evaluate_claims",
    "for_each_seed",
    "format_claims",
    "format_finding",
    "format_value",
    "rows_of",
]
