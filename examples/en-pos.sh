#!/usr/bin/env bash
# Make models/en-pos: UPOS tags for English, from UD English-EWT (train.conllu and dev.conllu in the folder given) and
# GloVe vectors of 100 numbers (a file in GloVe's text format).
set -euo pipefail
data=$1 vectors=$2 out=${3:-models/en-pos}
rnntool train tag "$data/train.conllu" --dev "$data/dev.conllu" -o "$out" --passage 100 --vectors "$vectors" \
    --vectors-limit 9000 --vocab-size 5000 --embed 100 --affix-embed 64 --affix-buckets 4096 --token-dropout 0.2 \
    --epochs 18 --int8 --language en --license cc-by-sa-4.0 \
    --about "Universal parts of speech for English, learned from UD English-EWT (CC BY-SA 4.0) and GloVe vectors (6B \
tokens, public domain)."
rm "$out/model.safetensors"  # only the graph ships; this script makes the weights again
