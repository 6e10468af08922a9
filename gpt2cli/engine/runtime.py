"""ONNX Runtime: how a graph is opened, and what a processor and a GPU can do with it.

Every room that needs the library takes it from here: its wheels report to their makers by default (docs/Privacy.md of
ONNX Runtime), from the moment they are imported, and keep a database of what is to be sent in the home folder."""

import contextlib
import io
import os
import re
import time
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # Linux and macOS; it has to come before the import
import onnxruntime

from gpt2cli.engine import harmless
from gpt2cli.errors import CannotMeet, CorruptFile
from gpt2cli.paths import contained

onnxruntime.disable_telemetry_events()  # Windows

OrtValue = onnxruntime.OrtValue
VERSION: str = onnxruntime.__version__

# Of each device. The CPU stands behind no other: what a device cannot do is an error, not slow.
PROVIDERS: dict[str, list[Any]] = {
    "cpu": ["CPUExecutionProvider"],
    "cuda": [
        (
            "CUDAExecutionProvider",
            {
                "use_tf32": "0",  # the head is in float32, and stays so
                "enable_skip_layer_norm_strict_mode": "1",  # sums in float32 before 1.27 too
                # flash, memory-efficient and plain attention: by default Hopper takes cuDNN's, which builds a plan
                # for each new length of a prompt
                "sdpa_kernel": "19",
                "arena_extend_strategy": "kSameAsRequested",  # not the next power of two
            },
        )
    ],
}
# Microseconds for which a thread waits for the next operator before it sleeps. ONNX Runtime's own value, 1,000, is 2 %
# faster on an idle machine and 14 % slower beside a program that came later.
_SPIN = "80"
_LOOKS = 3
_SWAP = 'pip uninstall -y onnxruntime && pip install "onnxruntime-gpu[cuda,cudnn]"'
_NO_MEMORY = ("failed to allocate", "out of memory", "alloc_failed", "bad_alloc", "bad allocation")


def open_session(
    graph: Path | bytes,
    threads: int = 0,
    *,
    settled: bool = False,
    device: str = "cpu",
    alternating: bool = False,
    beside: bool | None = None,
    weights: Path | None = None,
) -> Any:
    """An onnxruntime.InferenceSession. `settled`: the graph stands as it is to be run. `alternating`: another session
    runs in turns with this one, and its threads would wait for work on the processors of the other's (a third of the
    time of two models on 2 cores; alone, waiting so is 8 % faster). `beside` is what `crowded` said to one who asked
    while no other thread of ours was at work. `weights` is the folder of the files that a graph in bytes names. Raises
    CorruptFile, also for a file that reads others outside its folder, and CannotMeet where memory is lacking."""
    if isinstance(graph, Path):
        harmless.check(graph)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # what goes wrong arrives as an exception
    if settled:
        # to find that nothing is to be fused or folded takes 30 to 40 ms
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    else:
        # x86 without VNNI multiplies unsigned by signed bytes in 16 bits that saturate: ask for the exact kernels there
        # (which copies all weights). Without effect on other CPUs.
        options.add_session_config_entry("session.x64quantprecision", "1")
    if crowded(threads) if beside is None else beside:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    else:
        options.add_session_config_entry("session.intra_op.spin_duration_us", _SPIN)
    # Planning which buffers share memory took 180 of 240 ms of opening a graph of 700 nodes, and measured nothing: the
    # arena reuses what is freed.
    options.enable_mem_reuse = False
    if weights is not None:
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(weights))
    if alternating:
        options.add_session_config_entry("session.force_spinning_stop", "1")
    try:
        return _open(graph, options, device)
    except Exception as error:  # ONNX Runtime has one exception class for each kind of failure
        if problem := out_of_memory(error):
            raise problem from None
        raise CorruptFile(
            f"cannot load {graph if isinstance(graph, Path) else 'a graph of ours'}: {_first_line(error)}",
            "it is damaged: gpt2 verify tells more; an export of ours is made again when its folder is deleted",
        ) from None


def _open(graph: Path | bytes, options: Any, device: str) -> Any:
    if device != "cpu":
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    # its own fallback is to the CPU, with a report on stdout
    return onnxruntime.InferenceSession(graph, options, providers=PROVIDERS[device], enable_fallback=0)


def crowded(threads: int) -> bool:
    """Whether other programs want the processors that so many threads (0: one for each) would wait on: then those had
    better sleep between two operators. Linux says how many want to run now; elsewhere it is not known, and False."""
    processors = os.cpu_count() or 1
    for look in range(_LOOKS):  # what is there in all of them is no passer-by
        if look:
            time.sleep(0.001)
        try:
            others = runnable(Path("/proc/loadavg").read_text(encoding="ascii")) - 1  # without this thread
        except OSError:
            return False
        if min(others, processors) + (threads or processors) <= processors:
            return False
    return True


def runnable(loadavg: str) -> int:
    """Of /proc/loadavg (proc_loadavg(5)): the threads that run or want to. 0 where the line is another."""
    found = re.match(r"(?:[\d.]+ ){3}(\d+)/", loadavg)
    return int(found[1]) if found else 0


def out_of_memory(error: Exception) -> CannotMeet | None:
    """What to raise where memory was lacking; None where something else went wrong."""
    text = str(error)
    if not any(sign in text.lower() for sign in _NO_MEMORY):
        return None
    return CannotMeet(
        f"not enough memory: {_first_line(error)}",
        "lower `samples`, take `precision` int8 or a smaller model, or `device` cpu where it is the GPU's",
    )


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def settled(path: Path) -> bool:
    """Facts.settled of an export, before there is a session that could tell."""
    try:
        raw = contained(path, path.parent).read_bytes()
    except OSError:
        return False  # opening the session tells what is wrong
    return b'"saturates": false' in raw and any(b'"precision": "%s"' % name in raw for name in (b"fp32", b"int8"))


def saturates() -> bool:
    """Whether this processor's fast kernels for unsigned x signed bytes saturate, tried out."""
    from gpt2cli.export import graph  # imports onnx, which a cached model does not need

    session = _open(graph.saturation_probe(), onnxruntime.SessionOptions(), "cpu")
    (product,) = session.run(None, {"x": np.full((8, 64), 255, np.uint8)})
    return bool((product != 64 * 127 * 255).any())


def check_cuda() -> None:
    """Raises CannotMeet where CUDA cannot be used here, found by running a graph of one node."""
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        raise CannotMeet("CUDA cannot be used: this onnxruntime has no CUDA execution provider", _SWAP)
    from gpt2cli.export import graph  # imports onnx: 100 ms that only machines with a GPU pay

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    said = io.StringIO()
    onnxruntime.set_default_logger_severity(4)
    try:
        with contextlib.redirect_stdout(said):  # it prints what it does not find
            onnxruntime.preload_dlls()  # the libraries of the packages nvidia-*
        session = _open(graph.row_gather([1], 1), options, "cuda")
        session.run(None, {"cache_0": np.zeros((1, 1), np.float16), "rows": np.zeros(1, np.int64)})
    except Exception as error:  # ONNX Runtime has one exception class for each kind of failure
        raise _cuda_problem(_first_line(error), said.getvalue()) from None
    finally:
        onnxruntime.set_default_logger_severity(2)


def _cuda_problem(reason: str, said: str) -> CannotMeet:
    """In words. The provider that cannot be loaded is left out by ONNX Runtime, and its nodes fall to the CPU."""
    if "default CPU EP" in reason:
        missing = next((line for line in said.splitlines() if line.startswith("Failed to load")), "")
        reason = "its CUDA libraries do not load" + (f" ({missing.rstrip('.')})" if missing else "")
        hint = 'pip install "onnxruntime-gpu[cuda,cudnn]", with "<1.27" for drivers below 580; or `device` cpu'
    else:
        reason = reason.partition(" ; ")[0]
        hint = 'does nvidia-smi work? drivers below 580 need "onnxruntime-gpu[cuda,cudnn]<1.27"; or use `device` cpu'
    return CannotMeet(f"CUDA cannot be used: {reason}", hint)
