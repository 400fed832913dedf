"""The check of an accelerator: every line is printed, and what falls short or fails gives the exit status."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import torch

from experiments.device_check.__main__ import main
from experiments.device_check.checks import Check, Result, Setting, run_checks


def setting(seconds: float = 60.0) -> Setting:
    return Setting("cpu", True, time.monotonic() + seconds)


def of(*results: Result) -> Check:
    return Check("planted", lambda _: iter(results), 5)


def test_what_falls_short_gives_1(capsys: pytest.CaptureFixture[str]) -> None:
    enough, few = Result("speed", 120.0, "steps/s", 100.0), Result("speed", 90.0, "steps/s", 100.0)
    near, far = Result("error", 0.1, "nats", 0.5, True), Result("error", 0.9, "nats", 0.5, True)
    unknown = Result("error", float("nan"), "nats", 0.5, True)
    assert run_checks([of(enough, near, Result("time", 3.0, "s"))], setting()) == 0
    assert "3 ok, 0 short, 0 failed" in capsys.readouterr().out.splitlines()[-1]
    for short in (few, far, unknown):
        assert run_checks([of(enough, short)], setting()) == 1
        assert "1 ok, 1 short, 0 failed" in capsys.readouterr().out.splitlines()[-1]


def test_failure_and_time_limit_stop_no_other_check(capsys: pytest.CaptureFixture[str]) -> None:
    def fail(_: Setting) -> Iterator[Result]:
        yield Result("before", 1.0, "s")
        raise ValueError("planted\nin two lines")

    def wait(_: Setting) -> Iterator[Result]:
        time.sleep(30)
        yield Result("never", 1.0, "s")

    checks = [Check("fails", fail, 5), Check("waits", wait, 1, 59)]
    checks.append(of(Result("after", 1.0, "s", 0.5)))
    assert run_checks(checks, setting()) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" [")[0] for line in lines] == ["before", "fails", "waits", "after", "device check"]
    assert "failed, ValueError: planted in two lines" in lines[1]
    assert "failed, OutOfSeconds: not done after 1 s" in lines[2]
    assert "2 ok, 0 short, 2 failed" in lines[-1]


def test_no_accelerator_gives_2(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main([]) == main(["--device", "cuda"]) == 2
    assert "torch finds no CUDA device; give --quick or --device cpu" in capsys.readouterr().err


@pytest.mark.slow
def test_quick_checks(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--quick", "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    for name in (
        "difference of weights to CPU",
        "difference of losses to CPU",
        "difference of log-probabilities to CPU",
        "steps at paper",
        "share of time waiting for batches at paper",
        "batches at paper alone, with transfer",
        "share of time of the transfer at paper",
        "model-steps of 2 models at mini",
        "4 bases",
        "4 aligned models",
        "measuring 8 models",
        "aligned and measured models",
        "device tests passed",
    ):
        assert f"\n{name}" in f"\n{out}", name
    assert "0 short, 0 failed" in out.splitlines()[-1]
