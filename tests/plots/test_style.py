"""The style of figures restores settings; ticks of layers can be read."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np

from makebreak.plots import style
from makebreak.plots.style import layer_ticks


def test_style_keeps_interactive_mode() -> None:
    before, interactive = dict(mpl.rcParams), mpl.is_interactive()
    try:
        with style():
            assert mpl.rcParams["pdf.fonttype"] == 42
            mpl.interactive(True)  # as the backend of notebooks does when it is first used
        assert mpl.is_interactive()
        assert {k: v for k, v in mpl.rcParams.items() if k != "interactive"} == {
            k: v for k, v in before.items() if k != "interactive"
        }
    finally:
        mpl.interactive(interactive)


def test_layer_ticks() -> None:
    assert layer_ticks([3, 1, 2, 1]) == [1, 2, 3]
    assert layer_ticks(range(1, 31)) == [5, 10, 15, 20, 25, 30]
    for depth in (9, 12, 13, 32, 80, 126):
        ticks = layer_ticks(range(depth + 1))
        assert 4 <= len(ticks) <= 8
        assert len(set(np.diff(ticks))) == 1
