#!/bin/sh
# A language Run behind vLLM's OpenAI-compatible server. RUN: its tokens are byte pairs (fields.text.tokens: bpe).
#   deploy/vllm.sh runs/poems poems 8000
set -eu
run=$1 name=$2 port=${3:-8000}
folder=$(mktemp -d)/$name
modelworks export "$run" --format hf --output "$folder"
# float32, as the Run is; --dtype bfloat16 halves memory. vLLM reads config.json, safetensors and tokenizer.json alone.
exec vllm serve "$folder" --served-model-name "$name" --dtype float32 --host 127.0.0.1 --port "$port"
