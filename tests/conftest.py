"""Shared by all tests: one thread for each worker (two would fight for the same cores), and no network."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import beartype  # noqa: F401  nnsight, imported first, would break it
