"""Command `demo`: a page on two small models that ship with the package."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from makebreak.cli.options import DebugFlag, Report, log

if TYPE_CHECKING:
    import pandas as pd

_BASE, _ALIGNED = "mini-base", "mini-ssft"


def demo(
    out: Annotated[
        Path, tyro.conf.arg(metavar="FOLDER", help="Folder for the report, its tables and its figures.")
    ] = Path("runs/demo"),
    debug: DebugFlag = False,
) -> Report:
    """Write a page on two small models that ship with makebreak, in under a minute and offline.

    The models answer requests of a synthetic world, where what is safe and what is correct is known exactly.
    One was aligned by supervised safety fine-tuning (SSFT), and the other one is its base.
    """
    from makebreak import api
    from makebreak.output_folders import check_output_folder, name_option

    check_output_folder(out)
    log(f"comparing {_BASE} with {_ALIGNED}, models of 3 layers in the synthetic world mini")
    base, aligned = api.organism(_BASE), api.organism(_ALIGNED)
    rates = api.evaluate([base, aligned], families=["unsafe"])
    result = api.compare(base, aligned)
    with name_option("--out", out):
        path = result.save(out)
    lines = [
        f"Refusals of unsafe requests, with 95 % intervals over requests: {_refusals(rates.table)}.",
        *result.summary,
        "",
        "next: open the page; makebreak inspect MODEL does this for a language model; in Python, "
        "makebreak.organisms() lists the models that ship",
    ]
    return lines, path


def _refusals(rates: pd.DataFrame) -> str:
    """Refusal rates of models with their intervals, as a list."""
    return ", ".join(
        f"{row.model} {row.refuse:.2f} [{row.refuse_low:.2f}, {row.refuse_high:.2f}]"
        for row in rates.itertuples()
    )
