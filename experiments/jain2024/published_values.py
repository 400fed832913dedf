"""Published values of Jain et al. 2024, Fig. 3, read off the figure of the released repository.

τ is a mean over 1000 requests of one model of each kind, by layer. The reading error is .01 to .02 where the
axis is fine, and .3 in the first three layers of the models with a large range (DPO and unlearning at η_M).
There is no panel of unlearning at η_S. The paper's tables of behaviour were not available.
"""

from __future__ import annotations

from collections.abc import Mapping

PUBLISHED_TAU: Mapping[str, Mapping[str, tuple[float, ...]]] = {
    "base": {
        "safe": (-0.02, 0.06, 0.12, 1.37, 1.11, 0.57),
        "unsafe": (-0.01, -0.03, -0.04, -0.76, -0.41, -0.09),
    },
    "ssft": {
        "safe": (0.02, 0.07, 0.19, 1.64, 2.55, 1.95),
        "unsafe": (-0.01, -0.04, -0.09, -0.86, -2.93, -0.89),
    },
    "ssft_small": {
        "safe": (-0.01, 0.06, 0.12, 1.47, 1.61, 1.35),
        "unsafe": (0.0, -0.03, -0.05, -0.75, -0.68, -0.27),
    },
    "dpo_paper": {
        "safe": (-0.05, 0.3, 0.3, 2.7, 16.7, 38.6),
        "unsafe": (0.0, -0.03, -0.14, -0.84, -10.4, -25.2),
    },
    "dpo_paper_small": {
        "safe": (0.01, 0.08, 0.19, 2.43, 7.0, 10.6),
        "unsafe": (0.0, -0.01, -0.09, -1.16, -2.2, -1.9),
    },
    "unlearning": {
        "safe": (0.3, 0.0, -0.1, 2.8, 18.8, 53.1),
        "unsafe": (0.0, 0.0, 0.0, -1.05, -13.8, -43.0),
    },
}
"""Mean τ by arm, class of requests and layer, from the first of six layers to the last."""
