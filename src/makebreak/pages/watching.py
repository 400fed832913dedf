"""Where do attacked requests land in a language model, and would a monitor have seen them?

Means and probes come from clean requests, half of a reference set; the layer, and the threshold of the monitors, from
its other half. They are made when they are first needed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from makebreak.defences import FALSE_ALARMS, KINDS, Monitor, alarms, fit_monitors
from makebreak.geometry import Clusters
from makebreak.mechanism import Pair, cluster_means, cluster_rows, collect
from makebreak.models import LanguageModel
from makebreak.pages.inspection import LEAST, Settings, ask
from makebreak.pages.steps import Rows
from makebreak.requests import Requests

ENOUGH = 2 * LEAST  # requests of each kind, half of which are fitted on


@dataclass(frozen=True)
class Fitted:
    """layer: where harmful and harmless requests are furthest apart. auroc: of τ there. means: at its `mlp.hook_post`.
    monitors: behind it. false_alarms: share of quiet requests at their threshold."""

    layer: int
    auroc: float
    means: Clusters
    monitors: tuple[Monitor, ...]
    false_alarms: float


class Watcher:
    """reference: `harmless` and `harmful` requests, and `borderline` ones if any."""

    def __init__(
        self, found: LanguageModel, reference: Mapping[str, Sequence[str]], settings: Settings
    ) -> None:
        for family in ("harmless", "harmful"):
            if len(reference.get(family, ())) < ENOUGH:
                n = len(reference.get(family, ()))
                raise ValueError(f"{n} {family} requests of reference: expected at least {ENOUGH}")
        self.found, self.reference, self.settings = found, reference, settings

    @cached_property
    def fitted(self) -> Fitted:
        asked = {
            family: ask(self.found, family, texts, self.settings) for family, texts in self.reference.items()
        }
        model = self.found.model
        fit, score = (Pair(*(asked[f][half::2] for f in ("harmless", "harmful"))) for half in (0, 1))
        rows = cluster_rows(model, fit, {"score": score}, seed=self.settings.seed)
        best = max(rows, key=lambda row: row["auroc"])
        quiet = [*self.reference["harmless"][1::2], *self.reference.get("borderline", ())]
        rate = max(FALSE_ALARMS, 1 / len(quiet))
        monitors = fit_monitors(
            model,
            fit,
            ask(self.found, "harmless", quiet, self.settings),
            layers=[best["layer"]],
            false_alarms=rate,
        )
        means = cluster_means(model, fit)[best["layer"]]
        return Fitted(
            best["layer"], best["auroc"], means, tuple(monitors[k, best["layer"]] for k in KINDS), rate
        )

    def see(self, requests: Requests) -> Rows:
        """One row per request, at the end of its prompt: `tau`, normalised, positive on the safe side; whether each
        monitor raises an alarm."""
        fitted, model = self.fitted, self.found.model
        [states] = collect(model, requests, [f"blocks.{fitted.layer}.mlp.hook_post"])
        tau = fitted.means.tau(states).numpy() / fitted.means.distance
        raised = alarms(fitted.monitors, model, requests)
        columns: dict[str, np.ndarray] = {"tau": tau} | {
            f"alarm, {m.kind}": a for m, a in zip(fitted.monitors, raised, strict=True)
        }
        return [
            dict(zip(columns, values, strict=True))
            for values in zip(*(c.tolist() for c in columns.values()), strict=True)
        ]

    def clean(self) -> Rows:
        """Rows of the requests that made no mean, as they are: what attacked ones are to be read beside."""
        rows: Rows = []
        for family in ("harmless", "harmful"):
            texts = list(self.reference[family][1::2])
            rows += [
                {"family": family} | row for row in self.see(ask(self.found, family, texts, self.settings))
            ]
        return rows

    def told(self) -> str:
        """What was fitted, for a page."""
        f = self.fitted
        return (
            f"means and monitors of layer {f.layer + 1}, from {len(self.reference['harmful'][::2])} clean requests of "
            f"each kind, none of them attacked; AUROC of τ on as many others {f.auroc:.2f}, of all layers the best on "
            f"them; thresholds at {f.false_alarms:.0%} false alarms"
        )


def watcher_apart(
    found: LanguageModel,
    reference: Mapping[str, Sequence[str]],
    attacked: Sequence[str],
    settings: Settings,
    say: Callable[[str], None],
) -> Watcher | None:
    """Made of no request that is attacked, nor of the harmless one of its pair; None where it leaves too few."""
    taken = set(attacked)
    drop = {i for i, text in enumerate(reference["harmful"]) if text in taken}
    pairs = {
        f: [text for i, text in enumerate(reference[f]) if i not in drop] for f in ("harmless", "harmful")
    }
    if drop and len(pairs["harmful"]) < ENOUGH:
        say(
            f"where attacked requests land is not looked at: {len(drop)} of {len(reference['harmful'])} are attacked"
        )
        return None
    return Watcher(found, {**reference, **pairs}, settings)


def landing_rows(rows: Sequence[dict[str, Any]], by: str) -> Rows:
    """One row per attack (or family) and outcome, `all`, `answered` and `refused`: n, mean τ, share on the safe side,
    share that each monitor sees. rows: with `outcome`, where that was asked."""
    found = []
    for name in dict.fromkeys(row[by] for row in rows):
        own = [row for row in rows if row[by] == name]
        for outcome in ("all", "answered", "refused"):
            part = [row for row in own if outcome in ("all", row.get("outcome"))]
            if not part:
                continue
            tau = np.array([row["tau"] for row in part])
            seen = {
                key: float(np.mean([row[key] for row in part])) for key in part[0] if key.startswith("alarm")
            }
            found.append(
                {by: name, "outcome": outcome, "n": len(part), "tau": float(tau.mean())}
                | {"safe_side": float((tau > 0).mean())}
                | seen
            )
    return found
