"""The style of figures restores settings; ticks of layers can be read."""

from __future__ import annotations

import warnings

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from makebreak.plots import style
from makebreak.plots.style import arm_name, layer_ticks, plain_text


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


def rendered(name: str, *, parse_math: bool) -> np.ndarray:
    figure = Figure(figsize=(3, 0.5))
    figure.text(0.1, 0.5, name, parse_math=parse_math)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())


@pytest.mark.parametrize("name", ["a$b$c", r"$\frac{$", "5$", r"\$x\$", "$$", r"a\b", "model_1^2", "plain"])
def test_names_are_drawn_as_they_are(name: str) -> None:
    """Dollar signs begin no formula; a control draws one."""
    as_typed = rendered(name, parse_math=False)
    assert (rendered(plain_text(name), parse_math=True) == as_typed).all()
    if name == "a$b$c":
        assert (rendered(name, parse_math=True) != as_typed).any()


@pytest.mark.parametrize("name", [r"$\frac{$", "a\tb\x07", "\u6f22\u5b57", "\u202ex", r"$\undefined$"])
def test_any_name_can_be_a_title(name: str) -> None:
    """Neither an error nor a warning, whatever a model is called."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with style():
            figure, ax = plt.subplots(figsize=(1, 1))
            ax.set(title=arm_name(name), xscale="log")
            figure.canvas.draw()
            plt.close(figure)
