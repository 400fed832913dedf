"""What would have kept a model safe, or would have noticed?"""

from makebreak.defences.guards import answered, guard_rows
from makebreak.defences.monitors import FALSE_ALARMS, KINDS, Monitor, alarms, fit_monitor, fit_monitors

__all__ = ["FALSE_ALARMS", "KINDS", "Monitor", "alarms", "answered", "fit_monitor", "fit_monitors", "guard_rows"]
