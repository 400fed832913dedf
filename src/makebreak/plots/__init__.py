"""Figures: one function per figure, which takes tidy tables and returns matplotlib Axes."""

from makebreak.plots.attacks import plot_attacks, plot_search
from makebreak.plots.behaviour import plot_outcomes
from makebreak.plots.columns import plot_columns
from makebreak.plots.controls import plot_controls
from makebreak.plots.fragility import (
    plot_association_matrix,
    plot_prediction_r2,
    plot_predictor_ranking,
    plot_predictor_scatter,
)
from makebreak.plots.fragility_worlds import plot_world_agreement
from makebreak.plots.grid import panel_grid
from makebreak.plots.landscape import (
    describe_bands,
    plot_basins,
    plot_direction_curves,
    plot_fine_tuning_attacks,
    plot_landscape_plane,
    plot_predictors,
)
from makebreak.plots.language import (
    plot_class_separation,
    plot_refusal_directions,
    plot_refusal_rates,
    plot_training_loss,
)
from makebreak.plots.layers import plot_null_share, plot_separation
from makebreak.plots.localisation import plot_localisation
from makebreak.plots.matched import plot_matched_comparison
from makebreak.plots.mechanism import (
    plot_preactivation_decomposition,
    plot_sensitivity,
    plot_stitching,
    plot_updates,
)
from makebreak.plots.mixing import plot_mixing, plot_relearning, plot_strategies
from makebreak.plots.monitors import plot_monitors
from makebreak.plots.probes import plot_probes
from makebreak.plots.projection import (
    plot_attack_success,
    plot_interchange,
    plot_projection,
    plot_steering,
)
from makebreak.plots.safety_cost import plot_safety_cost
from makebreak.plots.seed_means import plot_cluster_gaps, plot_seed_means
from makebreak.plots.style import arm_name, style
from makebreak.plots.transfer import plot_dose_response, plot_transfer_matrices
from makebreak.plots.updates import plot_kernel_share, plot_leading_gain, plot_update_projection

__all__ = [
    "arm_name",
    "describe_bands",
    "panel_grid",
    "plot_association_matrix",
    "plot_attack_success",
    "plot_attacks",
    "plot_basins",
    "plot_class_separation",
    "plot_cluster_gaps",
    "plot_columns",
    "plot_controls",
    "plot_direction_curves",
    "plot_dose_response",
    "plot_fine_tuning_attacks",
    "plot_interchange",
    "plot_kernel_share",
    "plot_landscape_plane",
    "plot_leading_gain",
    "plot_localisation",
    "plot_matched_comparison",
    "plot_mixing",
    "plot_monitors",
    "plot_null_share",
    "plot_outcomes",
    "plot_preactivation_decomposition",
    "plot_prediction_r2",
    "plot_predictor_ranking",
    "plot_predictor_scatter",
    "plot_predictors",
    "plot_probes",
    "plot_projection",
    "plot_refusal_directions",
    "plot_refusal_rates",
    "plot_relearning",
    "plot_safety_cost",
    "plot_search",
    "plot_seed_means",
    "plot_sensitivity",
    "plot_separation",
    "plot_steering",
    "plot_stitching",
    "plot_strategies",
    "plot_training_loss",
    "plot_transfer_matrices",
    "plot_update_projection",
    "plot_updates",
    "plot_world_agreement",
    "style",
]
