"""Learning: one loop for all tasks, its batches, optimizers and checkpoints."""
