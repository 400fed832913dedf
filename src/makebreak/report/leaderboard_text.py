"""Sentences about what predicts that safety breaks, computed from the tables of the study."""

from __future__ import annotations

import itertools

import pandas as pd

from makebreak.fragility.grid import BASELINES
from makebreak.plots.fragility import LEVEL, orient_associations
from makebreak.plots.fragility_names import outcome_name, predictor_name, qualified_models
from makebreak.plots.fragility_worlds import cosine_similarity, world_agreement

_STAGES = ("confirmatory", "exploratory")
"""Stages, that which decides first."""
_MOST = 5
"""Names of a list that are written out."""
_BORROWED = 0.1
"""Share of a correlation that can remain given margin and norm of ΔW when it is borrowed from one of them."""


def deciding_rows(associations: pd.DataFrame) -> pd.DataFrame:
    """Associations of the stage that decides: in each world the confirmatory one if it has a correlation.

    Args:
        associations: Every predictor with every outcome, by world and stage.

    Returns:
        The rows of one stage per world; none of a world without a rank correlation.
    """
    parts = [associations.iloc[:0]]
    for _, rows in associations.groupby("world", sort=False):
        stages = set(rows[rows.rank_correlation.notna()].stage)
        parts += [rows[rows.stage == stage] for stage in _STAGES if stage in stages][:1]
    return pd.concat(parts) if len(parts) > 1 else parts[0]


def leaderboard_summary(
    zoo: pd.DataFrame, associations: pd.DataFrame, predictions: pd.DataFrame, outcome: str
) -> list[str]:
    """Paragraphs of the page; every number and every verdict is computed from the tables.

    Args:
        zoo: One row per model.
        associations: Every predictor with every outcome.
        predictions: Predictions of every outcome for left-out mechanisms.
        outcome: Name of the outcome that is ranked.

    Returns:
        The models, one paragraph per world, and what differs between stages and worlds.
    """
    paragraphs = [_models(zoo)]
    rows = deciding_rows(associations)
    if rows.empty:
        return [*paragraphs, "No rank correlation is defined: the tables do not say what predicts anything."]
    paragraphs.append(
        "Rank correlations are within seed and dose, means over seeds with 95 % intervals over "
        "seeds; p is adjusted after Holm over all predictors and outcomes of a world and stage. "
        "A positive correlation supports the direction that is claimed for the predictor; where none is "
        "claimed, the absolute value is shown."
    )
    for (world, stage), part in rows.groupby(["world", "stage"], sort=False):
        own = predictions[(predictions.world == world) & (predictions.stage == stage)]
        paragraphs += _world(f"{world} ({stage})", part, own[own.outcome == outcome], outcome)
    return [*paragraphs, *_stages(associations, outcome), *_worlds(rows, outcome)]


def _models(zoo: pd.DataFrame) -> str:
    rows = qualified_models(zoo)
    if rows.empty:
        return "No model qualifies."
    parts = [
        f"{_count(len(part), 'qualified model')} of world {world} "
        f"({_count(part.mechanism.nunique(), 'mechanism')}, {_count(part.dose.nunique(), 'dose')}, "
        f"{_count(part.seed.nunique(), 'seed')})"
        for world, part in rows.groupby("world", sort=False)
    ]
    return f"The tables are about {' and '.join(parts)}; controls are left out."


def _world(world: str, rows: pd.DataFrame, predictions: pd.DataFrame, outcome: str) -> list[str]:
    """The paragraphs about one world at the deciding stage."""
    first = orient_associations(rows[rows.outcome == outcome])
    start = f"World {world}, {outcome_name(outcome)}"
    if first.empty:
        return [f"{start}: no rank correlation is defined.", _outcomes(world, rows)]
    claimed, tests = first[first.claim != 0], first.p_holm < LEVEL
    supported = first[tests & (first.claim != 0)]
    contrary = claimed[claimed.strength_high < 0]
    text = (
        f"{start}: {len(supported)} of {_count(len(claimed), 'predictor')} with a claimed direction "
        f"{_are(len(supported))} associated with it as claimed (adjusted p < .05)"
    )
    text += f"; {len(contrary)} with an interval below zero, against the claim" if len(contrary) else ""
    text += f" ({_names(contrary.predictor)})." if len(contrary) else "."
    if len(neutral := first[first.claim == 0]):
        shown = int((neutral.p_holm < LEVEL).sum())
        text += f" Of {_count(len(neutral), 'predictor')} without a claim {shown} {_are(shown)} associated "
        text += "in either direction."
    return [f"{text} {_best(first)}", f"{_left_out(predictions)} {_outcomes(world, rows)}".strip()]


def _best(first: pd.DataFrame) -> str:
    """The best predictor beside the best baseline, and what remains of it given two of the baselines."""
    others, cheap = first[~first.predictor.isin(BASELINES)], first[first.predictor.isin(BASELINES)]
    if others.empty:
        return ""
    top = others.iloc[0]
    text = f"The highest ranked that is no baseline is {predictor_name(top.predictor)} ({_interval(top)}, "
    text += f"{_p(top.p_holm)}, {_count(int(top.n_models), 'model')}, {_count(int(top.n_seeds), 'seed')})."
    if not cheap.empty:
        base = cheap.iloc[0]
        larger = others[others.strength > base.strength]
        apart = others[others.strength_low > base.strength_high]
        text += f" The best cheap baseline is {predictor_name(base.predictor)} ({_interval(base)})"
        if larger.empty:
            text += ": no other predictor has a larger correlation."
        else:
            text += (
                f": {len(larger)} of {_count(len(others), 'other predictor')} {_have(len(larger))} a larger "
            )
            text += "correlation, "
            text += (
                "but no interval lies wholly above that of the baseline."
                if apart.empty
                else f"and {_intervals(len(apart))} wholly above that of the baseline "
                f"({_names(apart.predictor)})."
            )
    if top.partial_strength == top.partial_strength:
        is_left = top.partial_strength_low > _BORROWED * top.strength
        text += (
            f" Given margin and norm of ΔW, the correlation of {predictor_name(top.predictor)} is "
            f"{_interval(top, 'partial_strength')}: "
            f"{'an association remains' if is_left else 'no association is shown to remain'}."
        )
    return text


def _left_out(predictions: pd.DataFrame) -> str:
    """What is predicted for mechanisms that were left out, by the baselines and by all predictors."""
    rows = predictions[predictions.r2.notna()].set_index("predictors")
    if "baselines" not in rows.index:
        return ""
    base = rows[rows.index == "baselines"].iloc[0]
    text = f"For mechanisms that were left out, the three baselines together reach R² {_interval(base, 'r2')}"
    every = rows[[name.startswith("all,") for name in rows.index]].sort_values("r2", ascending=False)
    single = rows[[not name.startswith("all,") and name != "baselines" for name in rows.index]]
    if not single.empty:
        best = single.sort_values("r2", ascending=False).iloc[0]
        text += f", the best single predictor ({predictor_name(str(best.name))}) {_interval(best, 'r2')}"
    if every.empty:
        return f"{text}."
    top = every.iloc[0]
    text += f", and all predictors by {str(top.name).removeprefix('all, ')} {_interval(top, 'r2')}: "
    if top.r2 <= base.r2:
        return f"{text}all predictors together predict no better than the baselines."
    if top.low > base.high:
        return f"{text}all predictors together predict better than the baselines."
    return (
        f"{text}that all predictors predict better than the baselines is not shown, as the intervals overlap."
    )


def _outcomes(world: str, rows: pd.DataFrame) -> str:
    """How many pairs of predictor and outcome are associated, and which predictors with most or none."""
    known = orient_associations(rows)
    if known.empty:
        return ""
    shown = known[known.p_holm < LEVEL]
    n_outcomes = known.outcome.nunique()
    text = f"Over all {_count(n_outcomes, 'outcome')} of world {world}, {len(shown)} of "
    text += f"{_count(len(known), 'pair')} of predictor and outcome {_are(len(shown))} associated"
    if shown.empty:
        return f"{text}."
    counts = shown.predictor.value_counts()
    most = sorted(counts[counts == counts.max()].index)
    text += f"; the most outcomes ({counts.max()}) are those of {_names(most)}"
    silent = [name for name in dict.fromkeys(known.predictor) if name not in counts]
    return f"{text}, and {_names(silent)} {_are(len(silent))} associated with none." if silent else f"{text}."


def _stages(associations: pd.DataFrame, outcome: str) -> list[str]:
    """How many associations of the exploratory stage were found again, and what became of its best."""
    keys = ["world", "predictor", "outcome"]
    known = orient_associations(associations)
    early, late = (known[known.stage == stage] for stage in reversed(_STAGES))
    if early.empty or late.empty:
        return []
    both = early.merge(late, on=keys, suffixes=("", "_late"))
    shown = both[both.p_holm < LEVEL]
    same = shown.rank_correlation * shown.rank_correlation_late > 0
    again = int(((shown.p_holm_late < LEVEL) & same).sum())
    text = (
        f"Of {_count(len(both), 'pair')} of predictor and outcome that both stages have, {len(shown)} "
        f"{_are(len(shown))} associated in the exploratory stage (adjusted p < .05), and {again} of these "
        "in the confirmatory stage too, with the same sign."
    )
    best = both[(both.outcome == outcome) & ~both.predictor.isin(BASELINES)]
    for world, part in best.groupby("world", sort=False):
        top = part.sort_values("strength", ascending=False, kind="stable").iloc[0]
        same = known[(known.stage == _STAGES[0]) & (known.predictor == top.predictor)]
        again_there = same[(same.outcome == outcome) & (same.world == world)].iloc[0]
        text += (
            f" In world {world} the best of the exploratory stage that is no baseline, "
            f"{predictor_name(top.predictor)} ({_interval(top)}), has {_interval(again_there)} in the "
            f"confirmatory stage{_turned(top)}, which its choice does not favour."
        )
    return [text]


def _turned(top: pd.Series) -> str:
    """What absolute values of a predictor without a claim hide: that the sign differs between the stages."""
    is_turned = top.claim == 0 and top.rank_correlation * top.rank_correlation_late < 0
    return ", with the opposite sign" if is_turned else ""


def _worlds(rows: pd.DataFrame, outcome: str) -> list[str]:
    """Whether correlations with robust safety agree between every two worlds."""
    sentences = []
    for one, two in itertools.combinations(dict.fromkeys(rows.world), 2):
        pairs = world_agreement(rows, outcome, (one, two))
        similarity = cosine_similarity(pairs)
        if similarity is not None:
            n_equal = int((pairs.x * pairs.y > 0).sum())
            sentences.append(
                f"Correlations with robust safety in {one} and in {two} have the same sign for {n_equal} of "
                f"{len(pairs)} predictors, and a cosine similarity of {_number(similarity)} "
                f"({outcome_name(outcome)})."
            )
    return sentences


def _interval(row: pd.Series, name: str = "strength") -> str:
    ends = ("low", "high") if name == "r2" else (f"{name}_low", f"{name}_high")
    low, high = (row[end] for end in ends)
    if low != low or high != high:
        return f"{_number(row[name])}, without an interval"
    return f"{_number(row[name])} [{_number(low)}, {_number(high)}]"


def _number(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")


def _p(value: float) -> str:
    if value != value:
        return "p undefined"
    return "adjusted p < .001" if value < 1e-3 else f"adjusted p = {value:.3f}"


def _names(predictors: pd.Series | list[str] | pd.Index) -> str:
    names = [predictor_name(name) for name in predictors]
    if len(names) > _MOST:
        names = [*names[:_MOST], f"{len(names) - _MOST} more"]
    return "; ".join(names)  # a name can have a comma


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def _are(n: int) -> str:
    return "is" if n == 1 else "are"


def _have(n: int) -> str:
    return "has" if n == 1 else "have"


def _intervals(n: int) -> str:
    return "one interval lies" if n == 1 else f"{n} intervals lie"
