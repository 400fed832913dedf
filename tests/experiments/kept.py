"""What has a store, and when was it written? Locks apart, which every look touches."""

from __future__ import annotations

from pathlib import Path


def made_at(store: Path) -> dict[str, int]:
    return {str(p): p.stat().st_mtime_ns for p in store.rglob("*") if p.is_file() and p.suffix != ".lock"}
