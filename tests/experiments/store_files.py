"""Files of a store and when they were written, to see whether a run wrote anything."""

from __future__ import annotations

from pathlib import Path


def modification_times(store: Path) -> dict[str, int]:
    """Time of the last modification by file, in ns; locks are left out, because every access touches them."""
    return {str(p): p.stat().st_mtime_ns for p in store.rglob("*") if p.is_file() and p.suffix != ".lock"}
