"""What happens inside a network on the way to an answer?"""

from makebreak.activations.capture import Captured, capture
from makebreak.activations.sites import site_names

__all__ = ["Captured", "capture", "site_names"]
