"""Learning: one loop for all tasks, its batches, optimizers and checkpoints."""

import os

# torch's OpenMP threads wait for each other by spinning. When another program takes a core they spin for
# nothing, and a training slows tenfold; a shorter spin costs nothing on an idle machine. Read when torch is
# imported.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
