"""Measures of what safety fine-tuning changes inside a network."""

from makebreak.mechanism.answer_positions import AnswerPositionRow, answer_position_rows
from makebreak.mechanism.attacked import AttackedRequests
from makebreak.mechanism.clusters import ClusterRow, cluster_means, cluster_rows
from makebreak.mechanism.compare import ChangedRequests, Comparison, compare
from makebreak.mechanism.constrained import ConstrainedRow, constrained_finetuning_rows
from makebreak.mechanism.cosmic import CosmicRow, cosmic_rows
from makebreak.mechanism.directions import (
    DIRECTION_SETTINGS,
    DirectionRow,
    DirectionSettings,
    SafeUnsafeRequests,
    ablate_directions,
    ablate_weights,
    direction_rows,
    mean_differences,
    refusal_direction,
)
from makebreak.mechanism.end_of_text import end_of_text_activations, shared_activations, tau_sites
from makebreak.mechanism.fisher import FISHER_SAMPLES, LayerFisher, layer_fisher
from makebreak.mechanism.harm_refusal import HarmRefusalRow, LabelledRequests, harm_refusal_rows
from makebreak.mechanism.identification import (
    AnswerRateRow,
    MechanismReport,
    answer_rates,
    identify_mechanism,
)
from makebreak.mechanism.interchange import InterchangeRow, interchange_rows
from makebreak.mechanism.localisation import (
    LocalisationRow,
    PatchingRow,
    activation_patching_rows,
    localisation_rows,
)
from makebreak.mechanism.matched_steering import (
    MatchedSteeringRow,
    matched_steering_rows,
    scale_to_disturbance,
    steering_vectors,
)
from makebreak.mechanism.null_share import NullShareRow, null_share_rows
from makebreak.mechanism.preactivations import (
    PreactivationRow,
    UpdateEnergyRow,
    WeightedEnergyRow,
    preactivation_rows,
    update_energy_rows,
    weighted_energy_rows,
)
from makebreak.mechanism.projection import (
    MIN_PER_OUTCOME,
    AttackProjection,
    ProjectionRow,
    SuccessPredictionRow,
    normalised_tau,
    project_attacks,
    projection_rows,
    success_prediction_rows,
)
from makebreak.mechanism.refusal_rank import RefusalRankRow, refusal_rank_rows
from makebreak.mechanism.request_mechanisms import MechanismRow, mechanism_rows
from makebreak.mechanism.right_null import (
    InputGainRow,
    KernelShareRow,
    input_gain_rows,
    kernel_share_rows,
)
from makebreak.mechanism.sensitivity import Sensitivity, SensitivityRow, sensitivity, sensitivity_rows
from makebreak.mechanism.steering import SCALES, SteeringData, SteeringRow, reversal_at_cost, steering_rows
from makebreak.mechanism.stitching import Stitching, residual_site, residual_states, stitch
from makebreak.mechanism.stitching_table import StitchingRow, stitching_rows
from makebreak.mechanism.update_geometry import ReadGainRow, UpdateRow, read_gain_rows, update_rows
from makebreak.mechanism.update_projection import UpdateProjectionRow, update_projection_rows
from makebreak.mechanism.verdict import (
    MechanismShareRow,
    MechanismVerdict,
    mechanism_shares,
    mechanism_verdict,
)
from makebreak.mechanism.verdict_rules import MECHANISMS, NOT_JUDGED, VERDICT_RULES, VerdictRules

__all__ = [
    "DIRECTION_SETTINGS",
    "FISHER_SAMPLES",
    "MECHANISMS",
    "MIN_PER_OUTCOME",
    "NOT_JUDGED",
    "SCALES",
    "VERDICT_RULES",
    "AnswerPositionRow",
    "AnswerRateRow",
    "AttackProjection",
    "AttackedRequests",
    "ChangedRequests",
    "ClusterRow",
    "Comparison",
    "ConstrainedRow",
    "CosmicRow",
    "DirectionRow",
    "DirectionSettings",
    "HarmRefusalRow",
    "InputGainRow",
    "InterchangeRow",
    "KernelShareRow",
    "LabelledRequests",
    "LayerFisher",
    "LocalisationRow",
    "MatchedSteeringRow",
    "MechanismReport",
    "MechanismRow",
    "MechanismShareRow",
    "MechanismVerdict",
    "NullShareRow",
    "PatchingRow",
    "PreactivationRow",
    "ProjectionRow",
    "ReadGainRow",
    "RefusalRankRow",
    "SafeUnsafeRequests",
    "Sensitivity",
    "SensitivityRow",
    "SteeringData",
    "SteeringRow",
    "Stitching",
    "StitchingRow",
    "SuccessPredictionRow",
    "UpdateEnergyRow",
    "UpdateProjectionRow",
    "UpdateRow",
    "VerdictRules",
    "WeightedEnergyRow",
    "ablate_directions",
    "ablate_weights",
    "activation_patching_rows",
    "answer_position_rows",
    "answer_rates",
    "cluster_means",
    "cluster_rows",
    "compare",
    "constrained_finetuning_rows",
    "cosmic_rows",
    "direction_rows",
    "end_of_text_activations",
    "harm_refusal_rows",
    "identify_mechanism",
    "input_gain_rows",
    "interchange_rows",
    "kernel_share_rows",
    "layer_fisher",
    "localisation_rows",
    "matched_steering_rows",
    "mean_differences",
    "mechanism_rows",
    "mechanism_shares",
    "mechanism_verdict",
    "normalised_tau",
    "null_share_rows",
    "preactivation_rows",
    "project_attacks",
    "projection_rows",
    "read_gain_rows",
    "refusal_direction",
    "refusal_rank_rows",
    "residual_site",
    "residual_states",
    "reversal_at_cost",
    "scale_to_disturbance",
    "sensitivity",
    "sensitivity_rows",
    "shared_activations",
    "steering_rows",
    "steering_vectors",
    "stitch",
    "stitching_rows",
    "success_prediction_rows",
    "tau_sites",
    "update_energy_rows",
    "update_projection_rows",
    "update_rows",
    "weighted_energy_rows",
]
