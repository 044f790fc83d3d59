"""What is particular to each task and can be known without NumPy: settings, presets, names."""
