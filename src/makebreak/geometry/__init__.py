"""Linear geometry of activations and weight updates: class means, moments, subspaces and update statistics.

All functions take tensors and return tensors or frozen results; no model is needed.
"""

from makebreak.geometry.asymptotic_auroc import AsymptoticAuroc, asymptotic_auroc
from makebreak.geometry.class_means import ClassMeanFitter, ClassMeans, Separation, separation
from makebreak.geometry.moments import MomentFitter, Moments
from makebreak.geometry.subspaces import (
    OutputSpaces,
    RankRule,
    Subspace,
    column_space,
    energy_rank,
    left_null_space,
    output_spaces,
    random_subspace,
    subspace_share,
)
from makebreak.geometry.updates import (
    BaseEnergyShare,
    ReadGain,
    Spectrum,
    energy_at_base_share,
    energy_curve,
    energy_share,
    principal_angles,
    read_gain,
    row_sines,
    sines,
    spectrum,
)

__all__ = [
    "AsymptoticAuroc",
    "BaseEnergyShare",
    "ClassMeanFitter",
    "ClassMeans",
    "MomentFitter",
    "Moments",
    "OutputSpaces",
    "RankRule",
    "ReadGain",
    "Separation",
    "Spectrum",
    "Subspace",
    "asymptotic_auroc",
    "column_space",
    "energy_at_base_share",
    "energy_curve",
    "energy_rank",
    "energy_share",
    "left_null_space",
    "output_spaces",
    "principal_angles",
    "random_subspace",
    "read_gain",
    "row_sines",
    "separation",
    "sines",
    "spectrum",
    "subspace_share",
]
