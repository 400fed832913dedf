"""Where do vectors lie? Subspaces, null spaces, clusters and updates: tensors in, frozen results out."""

from makebreak.geometry.clusters import ClusterMeans, Clusters, Separation, separation
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
    share,
)
from makebreak.geometry.updates import (
    Reading,
    Spectrum,
    energy_curve,
    energy_in,
    principal_angles,
    reading,
    released_sines,
    sines,
    spectrum,
)

__all__ = [
    "ClusterMeans",
    "Clusters",
    "MomentFitter",
    "Moments",
    "OutputSpaces",
    "RankRule",
    "Reading",
    "Separation",
    "Spectrum",
    "Subspace",
    "column_space",
    "energy_curve",
    "energy_in",
    "energy_rank",
    "left_null_space",
    "output_spaces",
    "principal_angles",
    "random_subspace",
    "reading",
    "released_sines",
    "separation",
    "share",
    "sines",
    "spectrum",
]
