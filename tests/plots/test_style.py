"""Does a style leave everything else as it was?"""

from __future__ import annotations

import matplotlib as mpl

from makebreak.plots import style


def test_settings_come_back_but_for_what_a_notebook_turns_on_with_its_first_figure() -> None:
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
