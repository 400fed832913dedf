"""Shared by all tests."""

import beartype  # noqa: F401  nnsight, imported first, would break it
