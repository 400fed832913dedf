"""Study of what predicts that the safety of a model breaks: many predictors, mechanisms and attacks."""
