"""Does the main job survive kills, races, damaged files and bad input? A campaign of trials, kept as a script.

`python -m experiments.campaign [--kills 100] [--bad 100] [--seed 0] [--workers 2] [--out DIR]`
"""
