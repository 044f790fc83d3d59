#!/usr/bin/env bash
# Make models/en-ner: persons, places, organizations and others in English, from CoNLL-2003 (eng.train and eng.testa
# in the folder given) and GloVe vectors of 100 numbers (a file in GloVe's text format).
set -euo pipefail
data=$1 vectors=$2 out=${3:-models/en-ner}
rnntool train tag "$data/eng.train" --dev "$data/eng.testa" --from conll --preset ner -o "$out" --vectors "$vectors" \
    --vectors-limit 26000 --vocab-size 5000 --embed 100 --affix-embed 64 --affix-buckets 4096 --epochs 15 --int8 \
    --language en --license other \
    --about "Named entities (PER, LOC, ORG, MISC) for English, learned from CoNLL-2003 and GloVe vectors (6B tokens, \
public domain). The Reuters text behind the former is for research only and is not part of the model; check that your \
use is in keeping with that."
rm "$out/model.safetensors"  # only the graph ships; this script makes the weights again
