"""makebreak: what makes safety fine-tuning work inside a network, and what breaks it?"""

__version__ = "0.1.0"
