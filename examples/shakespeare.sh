#!/usr/bin/env bash
# Make models/shakespeare: a language model of characters, from the tiny Shakespeare text (public domain). Its last
# tenth is held out to choose the weights.
set -euo pipefail
text=$1 out=${2:-models/shakespeare}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
size=$(wc -c < "$text")
head -c $((size * 9 / 10)) "$text" > "$work/train.txt"
tail -c +$((size * 9 / 10 + 1)) "$text" > "$work/dev.txt"
rnntool train lm "$work/train.txt" --dev "$work/dev.txt" --preset char --paragraphs --epochs 40 --max-time 38m -o "$out" --int8 \
    --language en --license cc0-1.0 \
    --about "Speeches in the manner of Shakespeare's plays, a character at a time. Learned from tiny Shakespeare \
(public domain), the last tenth held out."
rm "$out/model.safetensors"  # only the graph ships; this script makes the weights again
