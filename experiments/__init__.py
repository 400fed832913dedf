"""One folder per study; studies share recipes, never each other."""
