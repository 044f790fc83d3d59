#!/usr/bin/env bash
# Make models/en-ner: persons, places, organisations and others in English, from CoNLL-2003 (eng.train and eng.testa
# in the folder given).
set -euo pipefail
data=$1 out=${2:-models/en-ner}
rnntool train tag "$data/eng.train" --dev "$data/eng.testa" --from conll --preset ner -o "$out" --vocab-size 8000 \
    --epochs 18 --int8 --language en --license other \
    --about "Named entities (PER, LOC, ORG, MISC) for English, learned from CoNLL-2003. The Reuters text behind it is \
for research only and is not part of the model; check that your use is in keeping with that."
rm "$out/model.safetensors"  # only the graph ships; this script makes the weights again
