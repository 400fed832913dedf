"""Defences: safety data that are mixed into a user's fine-tuning data, and monitors of activations."""

from makebreak.defences.mitigations import MITIGATIONS, load_mitigation, mitigation_digest
from makebreak.defences.mixing import MixedFineTuning, mixed_sequences
from makebreak.defences.monitors import (
    FALSE_POSITIVE_RATE,
    MONITOR_KINDS,
    Monitor,
    fit_monitor,
    fit_monitors,
    flag_requests,
)
from makebreak.defences.probe_transfer import (
    ProbeTransferRow,
    append_instructed_answer,
    probe_transfer_rows,
)
from makebreak.defences.safety_data import AnsweredRequests, Mitigation, SafetyData
from makebreak.defences.template_inference import InferredTemplate, infer_template, rewrite_in_template
from makebreak.defences.thresholds import (
    DetectionRate,
    Flags,
    Threshold,
    calibrate_threshold,
    detection_rate,
    min_calibration_size,
    min_false_positive_rate,
)

__all__ = [
    "FALSE_POSITIVE_RATE",
    "MITIGATIONS",
    "MONITOR_KINDS",
    "AnsweredRequests",
    "DetectionRate",
    "Flags",
    "InferredTemplate",
    "Mitigation",
    "MixedFineTuning",
    "Monitor",
    "ProbeTransferRow",
    "SafetyData",
    "Threshold",
    "append_instructed_answer",
    "calibrate_threshold",
    "detection_rate",
    "fit_monitor",
    "fit_monitors",
    "flag_requests",
    "infer_template",
    "load_mitigation",
    "min_calibration_size",
    "min_false_positive_rate",
    "mitigation_digest",
    "mixed_sequences",
    "probe_transfer_rows",
    "rewrite_in_template",
]
