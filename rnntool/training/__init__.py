"""Training: one loop for all tasks, with its batches, optimizers and checkpoints."""
