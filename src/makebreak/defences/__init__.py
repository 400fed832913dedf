"""What would have kept a model safe, or would have noticed?"""

from makebreak.defences.guards import answered, guard_rows
from makebreak.defences.mitigations import MITIGATIONS, Mitigation, Safety, digest, mitigation
from makebreak.defences.mixing import Mixed, mixed_set
from makebreak.defences.monitors import FALSE_ALARMS, KINDS, Monitor, alarms, fit_monitor, fit_monitors
from makebreak.defences.rewriting import Found, found_in, rewritten

__all__ = [
    "FALSE_ALARMS",
    "KINDS",
    "MITIGATIONS",
    "Found",
    "Mitigation",
    "Mixed",
    "Monitor",
    "Safety",
    "alarms",
    "answered",
    "digest",
    "fit_monitor",
    "fit_monitors",
    "found_in",
    "guard_rows",
    "mitigation",
    "mixed_set",
    "rewritten",
]
