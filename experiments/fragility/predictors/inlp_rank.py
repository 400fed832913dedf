"""INLP rank: linear classifiers that are projected out one after another until none is better than chance."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.linear_model import RidgeClassifier

from experiments.fragility.predictors.samples import both_classes
from makebreak.mechanism import end_of_text_activations
from makebreak.model_zoo import AlignedPair
from makebreak.models import n_layers

_MOST_DIRECTIONS = 60
_N_REQUESTS = 96
_CHANCE = 0.6


def inlp_rank(subject: AlignedPair) -> float:
    """Number of projections after which safe and unsafe states are not told apart on held-out requests.

    Iterative null-space projection (Ravfogel et al. 2020) of the last block's output at the end of text;
    the classifier is fitted on one half of the requests and counts as chance below 60 % accuracy on the
    other.
    """
    sites = [f"blocks.{n_layers(subject.model) - 1}.hook_resid_post"]
    classes = both_classes(subject, _N_REQUESTS)
    states = [end_of_text_activations(subject.model, requests, sites)[0] for requests in classes]
    x = torch.cat(states).double().numpy()
    y = np.repeat([0, 1], [len(states[0]), len(states[1])])
    is_fit = np.arange(len(y)) % 2 == 0
    for k in range(_MOST_DIRECTIONS):
        classifier = RidgeClassifier().fit(x[is_fit], y[is_fit])
        if classifier.score(x[~is_fit], y[~is_fit]) < _CHANCE:
            return float(k)
        direction = np.ravel(classifier.coef_)
        direction = direction / np.linalg.norm(direction)
        x = x - np.outer(x @ direction, direction)
    return float(_MOST_DIRECTIONS)
