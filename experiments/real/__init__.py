"""What of the synthetic worlds carries over to a real language model that is made safe in the same ways?"""

from experiments.real.presets import PRESETS, check_gates
from experiments.real.report import write_report
from experiments.real.study import run, tasks, trainings

__all__ = ["PRESETS", "check_gates", "run", "tasks", "trainings", "write_report"]
