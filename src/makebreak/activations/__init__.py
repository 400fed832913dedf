"""What happens inside a network on the way to an answer, and what if it were otherwise?"""

from makebreak.activations.capture import Captured, capture, save, stream
from makebreak.activations.hooks import at_last, at_positions, run, run_embedded
from makebreak.activations.interventions import add, intervene, on_units, project_out, scale, set_to
from makebreak.activations.sites import resolve, site_names
from makebreak.activations.views import (
    nnsight_view,
    read_with_nnsight,
    read_with_transformer_lens,
    transformer_lens_view,
)

__all__ = [
    "Captured",
    "add",
    "at_last",
    "at_positions",
    "capture",
    "intervene",
    "nnsight_view",
    "on_units",
    "project_out",
    "read_with_nnsight",
    "read_with_transformer_lens",
    "resolve",
    "run",
    "run_embedded",
    "save",
    "scale",
    "set_to",
    "site_names",
    "stream",
    "transformer_lens_view",
]
