"""The public API, whose names are those of `makebreak` itself: models, functions, results and decorators."""

from makebreak.api.decorators import attack_method, measure, mitigation, objective
from makebreak.api.functions import attack, compare, evaluate, inspect, landscape, monitor
from makebreak.api.measures import score, zoo
from makebreak.api.model import Model, open_model, organism, organisms
from makebreak.api.result import Drawing, Result
from makebreak.api.training import align, fine_tune, pretrain
from makebreak.model_zoo import Measurement, Subject
from makebreak.prompts import Requests, load_world

__all__ = [
    "Drawing",
    "Measurement",
    "Model",
    "Requests",
    "Result",
    "Subject",
    "align",
    "attack",
    "attack_method",
    "compare",
    "evaluate",
    "fine_tune",
    "inspect",
    "landscape",
    "load_world",
    "measure",
    "mitigation",
    "monitor",
    "objective",
    "open_model",
    "organism",
    "organisms",
    "pretrain",
    "score",
    "zoo",
]
