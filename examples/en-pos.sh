#!/usr/bin/env bash
# Make models/en-pos: UPOS tags for English, from UD English-EWT (train.conllu and dev.conllu in the folder given).
set -euo pipefail
data=$1 out=${2:-models/en-pos}
rnntool train tag "$data/train.conllu" --dev "$data/dev.conllu" -o "$out" --passage 100 --vocab-size 4700 \
    --affix-embed 100 --token-dropout 0.2 --epochs 17 --int8 --language en --license cc-by-sa-4.0 \
    --about "Universal parts of speech for English, learned from UD English-EWT (CC BY-SA 4.0)."
rm "$out/model.safetensors"  # only the graph ships; this script makes the weights again
