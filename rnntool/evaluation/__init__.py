"""Figures: metrics, their uncertainty, and calibration. Knows no network and no file."""
