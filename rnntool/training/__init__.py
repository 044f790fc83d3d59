"""Learning: one loop for all tasks, its batches, optimizers and checkpoints.

What must be settled before torch is imported stands here.
"""

import os

# torch's OpenMP threads wait for each other by spinning. When another program takes a core they spin for
# nothing, and a training slows tenfold; a shorter spin costs nothing on an idle machine.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

# The kernel clears every page that it gives anew: let torch ask for large ones. See `rnntool.memory`, too.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
