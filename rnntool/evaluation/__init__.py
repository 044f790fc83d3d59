"""Metrics, confidence intervals and calibration. Knows no network and no file."""
