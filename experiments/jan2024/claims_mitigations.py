"""Claims about refusals among the data (A6, A7), and probes as monitors."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd

from experiments.jan2024.claim_values import (
    JAN,
    UNCHANGED,
    at_rate_of_safety_data,
    rise_matrix,
    task_names,
)
from experiments.jan2024.matrices import cell, mean_of_diagonal
from experiments.jan2024.transfer import transfer_matrix
from experiments.rate_differences import rate_difference
from makebreak.claims import Claim, Tables, for_each_seed, rows_of


def _refusals_of_open_text(tables: Tables) -> float:
    open_text, every = rise_matrix(tables, "guarded_gen"), rise_matrix(tables, "guarded")
    names = task_names(every)
    return float((open_text - every).loc[names].drop(columns="gen").to_numpy().mean())


def _refusals_of_others(tables: Tables) -> float:
    others, every = rise_matrix(tables, "guarded_others"), rise_matrix(tables, "guarded")
    return mean_of_diagonal(others, task_names(every)) - mean_of_diagonal(every, task_names(every))


def _recalls(tables: Tables, reads: str) -> pd.DataFrame:
    """Recall by the formats that a probe was fitted on (rows) and the evaluated format (columns)."""
    rows = rows_of(tables, "probes", input=reads)
    return rows.pivot_table(index="trained_on", columns="evaluated_on", values="recall")


def _recall_in_own_format(reads: str, tables: Tables) -> float:
    matrix = _recalls(tables, reads)
    values = matrix.loc[matrix.columns, matrix.columns].to_numpy()  # pyright: ignore[reportArgumentType]
    return float(np.diag(values).mean() - values[~np.eye(len(values), dtype=bool)].mean())


def _recall_of_seen_format(tables: Tables) -> float:
    recalls = _recalls(tables, "prompt")
    names = [str(name) for name in recalls.columns]
    return float(np.mean([cell(recalls, "all", n) - cell(recalls, f"all but {n}", n) for n in names]))


def _prevented_rises(tables: Tables) -> pd.Series:
    """Rise by format without minus with refusals, mean of tuned tasks."""
    same_rate = at_rate_of_safety_data(tables)
    without = transfer_matrix(same_rate, kind="task")
    names = task_names(without)
    return without.loc[names].mean() - transfer_matrix(same_rate, kind="guarded").loc[names].mean()


def _mean_prevented_rise(tables: Tables) -> float:
    return float(_prevented_rises(tables).mean())


def _least_prevented_rise(tables: Tables) -> float:
    return float(_prevented_rises(tables).min())


def _lost_accuracy(tables: Tables) -> float:
    """Accuracy in the tuned task, held-out requests with its operator, without minus with refusals."""
    after = at_rate_of_safety_data(tables)["after_tuning"]
    last = after[(after.step == after.groupby(["kind", "tuned_on"]).step.transform("max"))]
    own = last[(last.format == last.tuned_on) & (last.family == "safe") & (last.operator == "new")]
    by_kind = own.groupby("kind").comply.mean()
    return float(by_kind["task"] - by_kind["guarded"])


def _over_refusal(tables: Tables) -> float:
    """Rise of the share of safe requests that is refused, tuned with refusals."""
    matrix = transfer_matrix(at_rate_of_safety_data(tables), kind="guarded", families=("safe",))
    return -float(matrix.loc[task_names(matrix)].to_numpy().mean())


MITIGATION_PRIMARY = (
    rate_difference(
        "A6",
        _refusals_of_open_text,
        "Safety data of open text protect the other formats less than safety data of all formats",
        "rise in formats but gen, with refusals of gen minus with as many of all, mean of tuned tasks",
        source=JAN,
        role="primary",
    ),
    rate_difference(
        "A7",
        _mean_prevented_rise,
        "Refusals of all formats among the examples reduce the loss of refusal",
        "rise without minus with refusals among the examples (kind guarded), at its learning rate, mean of "
        "tuned tasks and formats",
        source=JAN,
        role="primary",
    ),
)
"""Primary claims about mitigations."""
MITIGATION_CLAIMS = (
    rate_difference(
        "A7.least",
        _least_prevented_rise,
        "Refusals of all formats among the examples reduce the loss of refusal in every format",
        "rise without minus with, mean of tuned tasks, least over formats; below 0 without an effect",
        source=JAN,
    ),
    rate_difference(
        "A6.own",
        _refusals_of_others,
        "Safety data of all formats but the tuned one protect that one less than data of all formats",
        "rise in the tuned format, with refusals of all others minus with as many of all, mean of tasks",
    ),
    rate_difference(
        "A6.guard",
        partial(_recall_in_own_format, "prompt"),
        "A probe of prompts that is fitted on one format fails in others",
        "recall in its own format minus in others, at a false positive rate of 1 %, mean of probes",
        source=JAN,
    ),
    rate_difference(
        "A6.answers",
        partial(_recall_in_own_format, "answer"),
        "A probe of prompts and answers that is fitted on one format fails in others",
        "the same, with the instructed answer after the prompt",
        source=JAN,
    ),
    rate_difference(
        "A6.rest",
        _recall_of_seen_format,
        "A probe of prompts that is fitted on all other formats fails in the one left out",
        "recall of probes of all formats minus of those of all but the evaluated one, mean of formats",
    ),
    Claim(
        id="A7.cost",
        statement="Refusals of all formats among the examples cost little",
        parts=("A7.accuracy", "A7.over_refusal"),
        source=JAN,
    ),
    Claim(
        id="A7.accuracy",
        statement="Refusals of all formats among the examples cost little accuracy in the tuned task",
        quantity="accuracy in the tuned task without minus with refusals, mean of tuned tasks",
        unit="rate",
        value=for_each_seed(_lost_accuracy),
        side="below",
        bound=UNCHANGED,
    ),
    Claim(
        id="A7.over_refusal",
        statement="Refusals of all formats among the examples do not make the model refuse safe requests",
        quantity="rise of the share of safe requests that is refused, mean of tuned tasks and formats",
        unit="rate",
        value=for_each_seed(_over_refusal),
        side="below",
        bound=UNCHANGED,
    ),
)
"""Descriptive claims about mitigations."""
