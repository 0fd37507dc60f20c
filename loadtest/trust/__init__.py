"""Whether a run may be believed: calibration, reconciliation with the engines, physics, the client's own health."""
