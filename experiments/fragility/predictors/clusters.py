"""Class-mean projection τ of both classes in every layer, shared by three predictors."""

from __future__ import annotations

from experiments.fragility.predictors.samples import both_classes
from makebreak.geometry import Separation, separation
from makebreak.mechanism import SafeUnsafeRequests, cluster_means, end_of_text_activations, tau_sites
from makebreak.model_zoo import AlignedPair


def separations(subject: AlignedPair) -> list[Separation]:
    """Separation by τ in every layer; means are of one half of the requests, scores of the other."""
    classes = both_classes(subject)
    fit = SafeUnsafeRequests(*(requests[::2] for requests in classes))
    score = [requests[1::2] for requests in classes]
    n_groups = len(set(subject.world.groups(fit.safe).tolist()))
    means = cluster_means(subject.model, fit, n_groups)
    safe, unsafe = (end_of_text_activations(subject.model, r, tau_sites(subject.model)) for r in score)
    return [separation(*layer) for layer in zip(means, safe, unsafe, strict=True)]
