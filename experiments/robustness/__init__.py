"""Robustness trials of the main job: kills, races, damaged files and bad input, generated from one seed.

Run them by `python -m experiments.robustness [--kills 100] [--bad 100] [--seed 0] [--workers 2] [--out DIR]`.
"""
