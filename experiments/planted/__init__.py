"""Benchmark of methods on planted mechanisms: the verdict, and three methods of the literature."""
