"""A study: what is computed, the claims about it, and how it is reported. One runner serves all studies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import pandas as pd

from makebreak.claims import Claim, ClaimRow, Tables
from makebreak.store import Store
from makebreak.studies.cells import Cell


@runtime_checkable
class Preset(Protocol):
    """Sizes of one run of a study: a frozen config."""

    @property
    def name(self) -> str:
        """Name of the preset."""
        ...

    @property
    def worlds(self) -> tuple[str, ...]:
        """Worlds that it can run in; the first is the default."""
        ...

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds, the unit of analysis."""
        ...


@dataclass(frozen=True)
class Figure:
    """A figure of a study's report."""

    name: str
    """Name of its files."""
    title: str
    """Title, also the alternative text of the image."""
    caption: str
    """What is shown, and how to read it."""
    draw: Callable[[Tables, Any], Any]
    """Draws it from the tables and the preset; returns its Axes, one or an array of them."""
    requires: tuple[str, ...] = ()
    """Tables without which the figure is left out."""
    claims: tuple[str, ...] = ()
    """Ids of the claims that it shows."""


@dataclass(frozen=True)
class Study:
    """A study: three files suffice, one of presets, one of cells, one of claims and figures."""

    name: str
    """Name, also that of its package."""
    title: str
    """Title of the report."""
    paper: str
    """Paper that it reproduces and extends."""
    question: str
    """The question that it answers, as one sentence."""
    presets: Mapping[str, Any]
    """Presets by name."""
    cells: Callable[[Any, str, tuple[int, ...]], Sequence[Cell]]
    """Cells of a preset, a world and seeds, always the same list in the same order."""
    claims: tuple[Claim, ...]
    """All claims, primary ones first."""
    answer: Callable[[Mapping[str, ClaimRow]], Sequence[str]]
    """The answer in a few sentences with numbers, from the evaluated claims by id."""
    figures: tuple[Figure, ...] = ()
    """Figures in the order of the report; the first one is shown beside the answer."""
    facts: Callable[[Any, str], Mapping[str, str]] = field(default=lambda preset, world: {})
    """What was run, by name, from the preset and the world."""
    derived: Mapping[str, Callable[[Tables], pd.DataFrame]] = field(default_factory=dict)
    """Tables that are computed from the others, in this order; one that raises `NotRun` is left out."""
    summaries: Mapping[str, Callable[[Tables], pd.DataFrame]] = field(default_factory=dict)
    """Tables of the report by title; one that raises `NotRun` is left out."""
    gates: tuple[Callable[[Any, str, Store], None], ...] = ()
    """Checks before the study runs, which raise ValueError if one fails."""
    with_model: Callable[[Any, str], Any] | None = None
    """Replaces the language model of a preset; None for a study that trains its own models."""
    unit: str = "pretraining seeds"
    """What the seeds are."""


class Request(NamedTuple):
    """What is run, as plain values, so that another process runs the same."""

    module: str
    """Module that has the study as `STUDY`."""
    preset: str
    """Name of the preset."""
    world: str
    """Name of the world."""
    seeds: tuple[int, ...]
    """The seeds."""
    model: str | None = None
    """Language model, for a study that has one."""


@dataclass(frozen=True)
class Results:
    """Tables and evaluated claims of a study, and where they come from."""

    tables: dict[str, pd.DataFrame]
    """Tables by name."""
    claims: list[ClaimRow]
    """Evaluated claims, in the order of the study."""
    folders: list[Path]
    """Folders of the store that the tables were computed from."""
