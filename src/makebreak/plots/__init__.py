"""How does a result look? One function per figure: a tidy table in, Axes out."""

from makebreak.plots.apart import plot_apart
from makebreak.plots.attack import plot_attacks, plot_search
from makebreak.plots.behaviour import plot_outcomes
from makebreak.plots.carried import plot_gaps, plot_shares
from makebreak.plots.cost import plot_cost
from makebreak.plots.equal import plot_equal
from makebreak.plots.ladder import plot_ladder
from makebreak.plots.landing import plot_causes, plot_landing, plot_success
from makebreak.plots.landscape import plot_basins, plot_falls, plot_map, plot_told, plot_ways
from makebreak.plots.language import plot_directions, plot_layers, plot_refusals, plot_training
from makebreak.plots.layers import plot_null_share, plot_separation
from makebreak.plots.matrix import plot_doses, plot_matrices
from makebreak.plots.mechanism import plot_anatomy, plot_rivals, plot_sensitivity, plot_updates
from makebreak.plots.mixing import plot_mixing, plot_relearning, plot_restructured
from makebreak.plots.parts import plot_parts
from makebreak.plots.style import arm_name, style

__all__ = [
    "arm_name",
    "plot_anatomy",
    "plot_apart",
    "plot_attacks",
    "plot_basins",
    "plot_causes",
    "plot_cost",
    "plot_directions",
    "plot_doses",
    "plot_equal",
    "plot_falls",
    "plot_gaps",
    "plot_ladder",
    "plot_landing",
    "plot_layers",
    "plot_map",
    "plot_matrices",
    "plot_mixing",
    "plot_null_share",
    "plot_outcomes",
    "plot_parts",
    "plot_refusals",
    "plot_relearning",
    "plot_restructured",
    "plot_rivals",
    "plot_search",
    "plot_sensitivity",
    "plot_separation",
    "plot_shares",
    "plot_success",
    "plot_told",
    "plot_training",
    "plot_updates",
    "plot_ways",
    "style",
]
