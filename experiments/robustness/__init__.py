"""Robustness trials of the main job: kills, races, damaged files and bad input, generated from one seed.

Run them by `python -m experiments.robustness [--kills 100] [--bad 100] [--trainings 1] [--out DIR]`.
"""
