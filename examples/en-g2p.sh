#!/usr/bin/env bash
# Make models/en-g2p: the pronunciation of an English word, from the CMU Pronouncing Dictionary as two TSV files without a
# header, `train.tsv` and `dev.tsv`: a word and its phones, variants on lines of their own. It takes 75 minutes.
set -euo pipefail
data=$1 out=${2:-models/en-g2p}
rnntool train transduce "$data/train.tsv" --dev "$data/dev.tsv" -o "$out" --preset g2p --int8 --batch-size 128 --lr 0.004 \
    --epochs 40 --max-time 75m --language en --license bsd-2-clause \
    --about "How an English word is pronounced in American English, as the phones of the CMU Pronouncing Dictionary \
(ARPAbet, with stress). Learned from that dictionary, Copyright 1993-2015 Carnegie Mellon University, BSD license."
rm "$out/model.safetensors"  # only the graphs ship; this script makes the weights again
