"""Workbench for the mechanisms of safety fine-tuning: what makes it work, and what breaks it."""

__version__ = "0.1.0"
