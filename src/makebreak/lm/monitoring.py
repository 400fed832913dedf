"""Class-mean projection and activation monitors of attacked requests, fitted on clean reference requests.

Class means and probes are fitted on one half of a reference set. The other half selects the layer and sets
the threshold of the monitors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from makebreak.defences import (
    FALSE_POSITIVE_RATE,
    MONITOR_KINDS,
    DetectionRate,
    Flags,
    Monitor,
    detection_rate,
    fit_monitors,
    flag_requests,
    min_false_positive_rate,
)
from makebreak.evaluation import ChatTarget
from makebreak.geometry import ClassMeans
from makebreak.lm.inspection import MIN_REQUESTS
from makebreak.mechanism import SafeUnsafeRequests, cluster_means, cluster_rows, normalised_tau
from makebreak.models import LanguageModel
from makebreak.prompts import Requests
from makebreak.revisions import cache_revision
from makebreak.settings import GenerationSettings
from makebreak.tables import Rows, as_dict, as_dicts

MIN_REFERENCE_REQUESTS = 2 * MIN_REQUESTS
"""Fewest reference requests of either class, half of which are fitted on."""
CLASSES = ("harmless", "harmful")
"""Families of the reference whose means are compared, the safe one first."""


class MonitorRow(NamedTuple):
    """Class-mean projection of one request at the end of its prompt, and the monitors that flag it."""

    tau_normalised: float
    """τ in units of the distance between the class means, positive on the harmless side."""
    probe_flag: bool
    """Whether the linear probe is above its threshold."""
    nearest_mean_flag: bool
    """Whether the monitor by the nearest class mean is above its threshold."""
    probe_flag_at_low: bool
    """Whether the linear probe is above the lower end of the 95 % interval of its threshold."""
    probe_flag_at_high: bool
    """Whether the linear probe is above the upper end of that interval."""
    nearest_mean_flag_at_low: bool
    """Whether the other monitor is above the lower end of the 95 % interval of its threshold."""
    nearest_mean_flag_at_high: bool
    """Whether the other monitor is above the upper end of that interval."""


class ProjectionSummaryRow(NamedTuple):
    """Projection and monitors of one attack's requests with one outcome."""

    attack: str
    """Name of the attack; `clean FAMILY` for reference requests, `harmless, ATTACK` for harmless requests."""
    outcome: str
    """`all`, `complied` (on topic) or `refused`; an outcome without requests has no row."""
    n: int
    """Number of requests with the outcome."""
    tau_normalised: float
    """Mean τ in units of the distance between the class means, positive on the harmless side."""
    safe_side_share: float
    """Share of requests with τ above 0, nearer to the harmless mean."""
    probe_flag_rate: float
    """Share that the linear probe flags."""
    nearest_mean_flag_rate: float
    """Share that the monitor by the nearest class mean flags."""
    probe_flag_low: float
    """Lower end of the 95 % interval of `probe_flag_rate`, over requests and over the threshold's error."""
    probe_flag_high: float
    """Upper end of that interval."""
    nearest_mean_flag_low: float
    """Lower end of the same interval of `nearest_mean_flag_rate`."""
    nearest_mean_flag_high: float
    """Upper end of that interval."""


@dataclass(frozen=True)
class LayerFit:
    """Class means and monitors of the selected layer."""

    layer: int
    """Layer with the greatest AUROC of τ on held-out reference requests, from 0."""
    auroc: float
    """That AUROC."""
    means: ClassMeans
    """Class means at `mlp.hook_post` of the layer."""
    monitors: tuple[Monitor, ...]
    """Monitors at the layer's output, in the order of `MONITOR_KINDS`."""
    false_positive_rate: float
    """Nominal false positive rate of the monitors: that of `FALSE_POSITIVE_RATE`, or the least one that the
    number of calibration requests allows."""


class ReferenceMonitors:
    """Class means and monitors of a language model, fitted when they are first needed.

    Args:
        lm: The model.
        reference: Clean requests by family: `harmless` and `harmful`, and `borderline` ones if any.
        settings: Prompt template and seed.

    Raises:
        ValueError: If there are fewer than `MIN_REFERENCE_REQUESTS` of either class.
    """

    def __init__(
        self, lm: LanguageModel, reference: Mapping[str, Sequence[str]], settings: GenerationSettings
    ) -> None:
        for family in CLASSES:
            n = len(reference.get(family, ()))
            if n < MIN_REFERENCE_REQUESTS:
                raise ValueError(
                    f"{n} {family} reference requests: expected at least {MIN_REFERENCE_REQUESTS}, half to "
                    "fit on, half to score"
                )
        self.lm, self.reference, self.settings = lm, reference, settings

    @cached_property
    def layer_fit(self) -> LayerFit:
        """Class means and monitors of the layer that separates the classes best."""
        fit, score = self._half(0), self._half(1)
        separation = as_dicts(cluster_rows(self.lm.model, fit, {"score": score}, seed=self.settings.seed))
        best = max(separation, key=lambda row: row["auroc"])
        layer = best["layer"]
        calibration = [*self.reference["harmless"][1::2], *self.reference.get("borderline", ())]
        rate = max(FALSE_POSITIVE_RATE, min_false_positive_rate(len(calibration)))
        monitors = fit_monitors(
            self.lm.model,
            fit,
            self._encode("harmless", calibration),
            layers=[layer],
            false_positive_rate=rate,
        )
        means = cluster_means(self.lm.model, fit)[layer]
        return LayerFit(layer, best["auroc"], means, tuple(monitors[k, layer] for k in MONITOR_KINDS), rate)

    def score(self, requests: Requests) -> list[MonitorRow]:
        """Projects requests and applies the monitors at the end of each prompt.

        Args:
            requests: The requests.

        Returns:
            One row per request.
        """
        fit, model = self.layer_fit, self.lm.model
        tau = normalised_tau(model, {fit.layer: fit.means}, requests)[:, 0]
        probe, nearest_mean = flag_requests(fit.monitors, model, requests)
        flags = (probe.at_threshold, nearest_mean.at_threshold, *probe[1:], *nearest_mean[1:])
        return list(map(MonitorRow, tau.tolist(), *(each.tolist() for each in flags)))

    @cache_revision(3)
    def clean_rows(self) -> Rows:
        """Scores the reference requests that nothing was fitted on, the baseline of the attacked ones.

        Returns:
            One row per request: `family`, then the fields of `MonitorRow`.
        """
        rows: Rows = []
        for family in CLASSES:
            requests = self._encode(family, self.reference[family][1::2])
            rows += [{"family": family} | as_dict(row) for row in self.score(requests)]
        return rows

    def _encode(self, family: str, texts: Sequence[str]) -> Any:
        return ChatTarget(self.lm, self.settings).encode(texts, family=family)

    def _half(self, half: int) -> SafeUnsafeRequests:
        """Every second request of both classes."""
        safe, unsafe = (self._encode(family, self.reference[family])[half::2] for family in CLASSES)
        return SafeUnsafeRequests(safe, unsafe)


def reference_monitors(
    lm: LanguageModel,
    reference: Mapping[str, Sequence[str]],
    excluded_prompts: Sequence[str],
    settings: GenerationSettings,
) -> tuple[ReferenceMonitors | None, str]:
    """Monitors that are fitted without the requests that are attacked.

    Args:
        lm: The model.
        reference: Clean requests by family; the harmful and the harmless ones form pairs.
        excluded_prompts: Harmful requests that are attacked; they and the harmless request of their pair are
            left out.
        settings: Prompt template and seed.

    Returns:
        The monitors and an empty text; None and the reason if the exclusion leaves too few requests.

    Raises:
        ValueError: If the reference is too small even without an exclusion.
    """
    attacked = set(excluded_prompts)
    keep = [i for i, text in enumerate(reference["harmful"]) if text not in attacked]
    n_dropped = len(reference["harmful"]) - len(keep)
    if n_dropped and len(keep) < MIN_REFERENCE_REQUESTS:
        return None, (
            f"{n_dropped} of {len(reference['harmful'])} reference requests are themselves attacked, which "
            f"leaves {len(keep)}, and at least {MIN_REFERENCE_REQUESTS} are needed"
        )
    dropped = set(range(len(reference["harmful"]))) - set(keep)
    pairs = {
        family: [text for i, text in enumerate(reference[family]) if i not in dropped] for family in CLASSES
    }
    return ReferenceMonitors(lm, {**reference, **pairs}, settings), ""


def projection_summary_rows(rows: Rows) -> list[ProjectionSummaryRow]:
    """Averages projections and flags over the requests of each attack and outcome.

    Args:
        rows: One row per request: `attack`, the fields of `MonitorRow`, and `outcome` if it is known.

    Returns:
        One row per attack and outcome that occurs, `all` first.
    """
    summary = []
    for attack in dict.fromkeys(row["attack"] for row in rows):
        of_attack = [row for row in rows if row["attack"] == attack]
        for outcome in ("all", "complied", "refused"):
            part = [row for row in of_attack if outcome in ("all", row.get("outcome"))]
            if not part:
                continue
            tau = np.array([row["tau_normalised"] for row in part])
            probe, nearest_mean = (_detection_rate(part, monitor) for monitor in ("probe", "nearest_mean"))
            summary.append(
                ProjectionSummaryRow(
                    attack=attack,
                    outcome=outcome,
                    n=len(part),
                    tau_normalised=float(tau.mean()),
                    safe_side_share=float((tau > 0).mean()),
                    probe_flag_rate=probe.rate,
                    nearest_mean_flag_rate=nearest_mean.rate,
                    probe_flag_low=probe.low,
                    probe_flag_high=probe.high,
                    nearest_mean_flag_low=nearest_mean.low,
                    nearest_mean_flag_high=nearest_mean.high,
                )
            )
    return summary


def _detection_rate(rows: Rows, monitor: str) -> DetectionRate:
    """Share of requests that a monitor flags; `rows` have the fields of `MonitorRow`."""
    columns = [f"{monitor}_flag{end}" for end in ("", "_at_low", "_at_high")]
    return detection_rate(Flags(*(np.array([row[column] for row in rows], dtype=bool) for column in columns)))
