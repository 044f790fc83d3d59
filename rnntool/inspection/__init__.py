"""Measures and pictures of trained networks and of trainings. Knows no command."""
