"""Is `import makebreak` light, and does it stay away from the network's and the plots' libraries?"""

from __future__ import annotations

import subprocess
import sys

HEAVY = (
    "torch",
    "transformers",
    "transformer_lens",
    "nnsight",
    "seaborn",
    "matplotlib",
    "pandas",
    "datasets",
)


def loaded(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*[m for m in {HEAVY!r} if m in sys.modules])"
    return set(
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.split()
    )


def test_import_makebreak_is_light() -> None:
    assert loaded("import makebreak") == set()
    assert "torch" in loaded("import makebreak.models"), "the test would see a heavy import"


def test_worlds_need_numpy_only() -> None:
    assert loaded("import synthetic; synthetic.load('mini').sample('safe', 4, seed=0)") == set()
