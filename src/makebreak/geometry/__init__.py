"""Where do vectors lie? Subspaces, null spaces and clusters: tensors in, frozen results out."""

from makebreak.geometry.clusters import ClusterMeans, Clusters, Separation, separation
from makebreak.geometry.subspaces import RankRule, Subspace, column_space, left_null_space, random_subspace, share

__all__ = [
    "ClusterMeans",
    "Clusters",
    "RankRule",
    "Separation",
    "Subspace",
    "column_space",
    "left_null_space",
    "random_subspace",
    "separation",
    "share",
]
