"""Geometric fragility score of a model and its base."""

from __future__ import annotations

import torch

from experiments.fragility.predictors.samples import both_classes
from makebreak.mechanism import end_of_text_activations
from makebreak.model_zoo import Subject
from makebreak.models import n_layers


def geometric_fragility(subject: Subject) -> float:
    """GFS = Σ w_l d_l (1 - c_l) of Skin-Deep (arXiv 2606.22676, released code).

    D_l is the movement of the states at the end of text from base to model, PC1 its first principal
    direction; d_l is |Cohen's d| of the projections of unsafe and safe requests on PC1, on requests that PC1
    was not computed from; c_l is |cos(PC1, difference of class means of the model)|; weights rise linearly
    from .5 to 1.5 and sum to 1.
    """
    depth = n_layers(subject.model)
    sites = [f"blocks.{layer}.hook_resid_post" for layer in range(depth)]
    classes = both_classes(subject)
    tuned, base = (
        [end_of_text_activations(model, requests, sites) for requests in classes]
        for model in (subject.model, subject.base)
    )
    weights = torch.linspace(0.5, 1.5, depth)
    weights = weights / weights.sum()
    score = 0.0
    for layer in range(depth):
        moves = [(tuned[k][layer] - base[k][layer]).double() for k in range(len(classes))]
        fit = torch.cat([move[::2] for move in moves])
        direction = torch.linalg.svd(fit - fit.mean(dim=0), full_matrices=False).Vh[0]
        safe, unsafe = (move[1::2] @ direction for move in moves)
        spread = ((safe.var() + unsafe.var()) / 2).sqrt()
        difference = tuned[1][layer].double().mean(dim=0) - tuned[0][layer].double().mean(dim=0)
        size = difference.norm()
        if spread > 0 and size > 0:
            cohens_d = float((unsafe.mean() - safe.mean()).abs() / spread)
            cosine = float((direction @ difference).abs() / size)
            score += float(weights[layer]) * cohens_d * (1 - cosine)
    return score
