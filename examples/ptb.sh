#!/usr/bin/env bash
# Train a language model of words on the Penn Treebank for ten minutes and report its validation perplexity
# (ptb.train.txt and ptb.valid.txt in the folder given).
set -euo pipefail
data=$1 out=${2:-runs/ptb}
rnntool train lm "$data/ptb.train.txt" --dev "$data/ptb.valid.txt" --preset word --max-time 10m -o "$out"
rnntool evaluate "$data/ptb.valid.txt" -m "$out"
