#!/bin/sh
# Graft beside its peers on a CUDA device: bfloat16, LoRA of rank 16, random weights of Llama's shapes, rows as long as
# Alpaca's. Without such a device a tiny shape runs on the CPU, which shows that the script works and nothing else.
#
#     bench/cuda.sh [SHAPE...]        llama-2-7b and llama-3-8b, or tiny, unless given
#
# OUT: folder for the figures (runs/bench-cuda). PYTHON: the interpreter that Graft and its extras `bench` and `quant` are
# installed for (.venv/bin/python).
set -eu
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-.venv/bin/python}
OUT=${OUT:-runs/bench-cuda}
PEERS=trainer-bf16,trainer-bf16-grouped,sft-bf16

if "$PYTHON" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
    CUDA=yes ROWS=256 ROUNDS=2 BATCH=8 SHAPES=${*:-llama-2-7b llama-3-8b}
else
    CUDA=no ROWS=8 ROUNDS=1 BATCH=4 SHAPES=${*:-tiny}
    echo "There is no CUDA device here: figures on CUDA are unmeasured. The CPU runs: $SHAPES"
fi

for SHAPE in $SHAPES; do
    [ ! -e "$OUT/$SHAPE" ] || { echo "$OUT/$SHAPE is in use: give another OUT" >&2; exit 2; }
done
for SHAPE in $SHAPES; do
    MADE=$(mktemp -d)
    trap 'rm -rf "$MADE"' EXIT
    "$PYTHON" bench/random_model.py "$SHAPE" "$MADE" --rows "$ROWS"
    "$PYTHON" -c 'from graft.cli import main; main()' bench \
        --model "$MADE/model" --data "$MADE/rows.jsonl" --rows 0 --rounds "$ROUNDS" --peers "$PEERS" \
        --set lora.r=16 --set train.global_batch="$BATCH" --out "$OUT/$SHAPE"
    echo
    echo "$SHAPE, bfloat16, LoRA of rank 16, $BATCH samples per step"
    "$PYTHON" bench/show_mfu.py "$OUT/$SHAPE/bench.json"
    echo
    "$PYTHON" bench/precisions.py "$MADE" bfloat16 nf4 || echo "NF4: unmeasured"
    rm -rf "$MADE"
done
[ "$CUDA" = yes ] || echo "CUDA: unmeasured; run this on a machine with a CUDA device"
