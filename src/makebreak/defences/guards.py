"""Does a guard that was made for some kinds of request see the others?

A guard reads a request, or a request with its answer, by a model of its own: a probe of its states at the last token.
It is fitted on safe and unsafe requests of some kinds. Recall is taken where one safe request in a hundred of the kind
that is asked raises an alarm; at a threshold from the kinds it was made of, safe requests of others may all raise one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.defences.monitors import FALSE_ALARMS, probe
from makebreak.mechanism import Pair, collect
from makebreak.requests import Requests
from makebreak.stats import auroc


def answered(requests: Requests) -> Requests:
    """The judged segment of the right answer at the end of each prompt; its last token is what a guard reads.

    Raises ValueError where answers are judged on a later output than the first.
    """
    if requests.judged[:, 0].any():
        raise ValueError(
            f"family {requests.family!r} is judged on a later output: expected one judged on the first"
        )
    length = requests.judged[:, 1]
    prompt = np.pad(requests.prompt, ((0, 0), (0, int(length.max()))))
    row, column = np.nonzero(np.arange(int(length.max())) < length[:, None])
    prompt[row, requests.prompt_length[row] + column] = requests.instructed[row, column]
    whole = requests.prompt_length + length
    spans = {**requests.spans, "eot": np.stack([whole - 1, whole], axis=1)}
    return replace(requests, prompt=prompt, prompt_length=whole, spans=spans)


def guard_rows(
    model: PreTrainedModel,
    fit: Mapping[str, Pair],
    quiet: Mapping[str, Requests],
    asked: Mapping[str, Pair],
    *,
    layer: int,
    false_alarms: float = FALSE_ALARMS,
) -> list[dict[str, Any]]:
    """One row per guard and kind that is asked: recall and AUROC, and `alarms`: what of its safe requests raises an
    alarm at the threshold of the kinds that the guard was made of.

    Guards are made of one kind alone (`made_of` its name), of all (`all`), and of all but one (`all but …`). fit,
    quiet, asked: by kind; quiet: other safe requests, for thresholds. layer: whose residual stream is read, after
    its block. Raises ValueError for fewer quiet requests of a kind than one alarm among them needs.
    """
    few = min(len(requests) for requests in quiet.values())
    if few < 1 / false_alarms:
        raise ValueError(
            f"{few} safe requests for a threshold: {false_alarms:g} false alarms need {1 / false_alarms:.0f}"
        )
    site = [f"blocks.{layer}.hook_resid_post"]

    def states(requests: Requests) -> Tensor:
        return collect(model, requests, site)[0].double()

    fitted = {kind: [states(part) for part in (*pair, quiet[kind])] for kind, pair in fit.items()}
    scored = {kind: [states(part) for part in pair] for kind, pair in asked.items()}
    kinds = list(fit)
    made = {kind: [kind] for kind in kinds} | {"all": kinds}
    made |= {f"all but {kind}": [k for k in kinds if k != kind] for kind in kinds if len(kinds) > 2}
    rows = []
    for name, of in made.items():
        safe, unsafe, others = (
            torch.cat(parts) for parts in zip(*(fitted[kind] for kind in of), strict=True)
        )
        weight, offset = probe(safe, unsafe)
        of_its_own = torch.quantile(others @ weight + offset, 1 - false_alarms)
        for kind, pair in scored.items():
            harmless, harmful, silent = (x @ weight + offset for x in (*pair, fitted[kind][2]))
            row = {"made_of": name, "asked": kind, "auroc": auroc(positive=harmful.numpy(), negative=harmless.numpy())}
            row["recall"] = float((harmful > torch.quantile(silent, 1 - false_alarms)).double().mean())
            rows.append(row | {"alarms": float((harmless > of_its_own).double().mean())})
    return rows
