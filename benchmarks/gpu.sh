#!/usr/bin/env bash
# Tests and figures on a machine with an NVIDIA GPU, in one go: bash benchmarks/gpu.sh [FOLDER]
# FOLDER (./gpu-results) gets tests.txt and gpu.json; checkpoints, exports and the environment go to $GPT2_GPU_WORK
# (a folder in /tmp, 13 GB). Where `python3` imports an onnxruntime with CUDA it is used as it is; otherwise packages are
# installed (PIP_NO_INDEX=1 PIP_FIND_LINKS=DIR: from wheels that were brought along). Peers are measured where `python3`
# imports them: torch with transformers, ctranslate2. Under ten minutes. Exit code 1: a test failed.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-gpu-results}
work=${GPT2_GPU_WORK:-${TMPDIR:-/tmp}/gpt2-gpu}
mkdir -p "$out" "$work"
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" HF_HUB_OFFLINE=1 ORT_DISABLE_TELEMETRY=1
export GPT2_CACHE="$work/cache" GPT2_STATE="$work/state" GPT2_CONFIG="$work/config.toml"
has_cuda='import onnxruntime, sys; sys.exit("CUDAExecutionProvider" not in onnxruntime.get_available_providers())'
if ! python3 -c "$has_cuda" 2>/dev/null; then
    # onnxruntime and onnxruntime-gpu overwrite each other: only one may be there
    python3 -m venv --system-site-packages "$work/environment"
    . "$work/environment/bin/activate"
    pip install -q '.[dev]'
    pip uninstall -q -y onnxruntime gpt2cli
    pip install -q --force-reinstall --no-deps onnxruntime-gpu
fi
# CUDA's libraries, where they are packages beside another onnxruntime than this one (torch brings them)
libraries=$(python3 - <<'PYTHON'
import importlib.util
from pathlib import Path
spec = importlib.util.find_spec("nvidia")
folders = spec.submodule_search_locations if spec else []
print(":".join(sorted({str(path.parent) for folder in folders for path in Path(folder).glob("*/lib/*.so*")})))
PYTHON
)
export LD_LIBRARY_PATH="$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader || true
tests=0
timeout 240 python3 -m pytest -q -m gpu -s -p no:cacheprovider tests >"$out/tests.txt" 2>&1 || tests=$?
tail -n 30 "$out/tests.txt"
python3 benchmarks/gpu.py "$out" --work "$work" --minutes "${GPT2_GPU_MINUTES:-5}"
[ "$tests" = 0 ] || { echo "tests: exit code $tests, see $out/tests.txt" >&2; exit 1; }
