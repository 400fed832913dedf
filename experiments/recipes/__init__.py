"""Recipes of models that several studies share, by the worlds that the models are trained in."""
