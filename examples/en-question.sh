#!/usr/bin/env bash
# Make models/en-question: what a question asks for (TREC-6), from the training questions as a TSV file with the
# columns `coarse` and `text`.
set -euo pipefail
data=$1 out=${2:-models/en-question}
rnntool train classify "$data" --label-column coarse --text-column text -o "$out" --int8 \
    --language en --license other \
    --about "What an English question asks for: ABBR, DESC, ENTY, HUM, LOC or NUM. Learned from the training \
questions of TREC-6 (Li and Roth 2002), free for research."
rm "$out/model.safetensors"  # only the graph ships; this script makes the weights again
