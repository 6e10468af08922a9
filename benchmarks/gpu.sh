#!/usr/bin/env bash
# Tests and figures on a machine with an NVIDIA GPU, in one go: bash benchmarks/gpu.sh [FOLDER]
# Needs Python 3.11+ and onnxruntime-gpu with its CUDA libraries, from pip or installed already. transformers and torch
# are compared with where they are importable. Writes FOLDER/gpu.json (default: ./gpu-results). Under ten minutes.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-gpu-results}
mkdir -p "$out"
if ! python3 -c 'import onnxruntime, sys; sys.exit("CUDAExecutionProvider" not in onnxruntime.get_available_providers())'; then
    # onnxruntime and onnxruntime-gpu overwrite each other: only one may be there
    python3 -m venv --system-site-packages "$out/environment"
    . "$out/environment/bin/activate"
    pip install -q -e '.[dev]'
    pip uninstall -q -y onnxruntime
    pip install -q --force-reinstall --no-deps onnxruntime-gpu
fi
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" GPT2_CACHE="$out/cache" HF_HUB_OFFLINE=1
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
python3 -m pytest -q -m gpu -s tests/test_device.py 2>&1 | tee "$out/tests.txt" || true
python3 benchmarks/gpu.py "$out"
