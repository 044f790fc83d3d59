"""Measures and pictures of what networks learned, and of trainings. Knows no command."""
