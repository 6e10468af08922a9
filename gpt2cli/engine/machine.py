"""What computes here, as far as it decides about the last bits of a logit: the processor and the libraries."""

import os
import platform
import re
from pathlib import Path
from typing import Any

import numpy as np

from gpt2cli.engine import runtime

# Of the many that Linux names those that kernels for matrices are written for, on x86 and ARM.
_FEATURES = re.compile(r"sse4_2|avx\w*|fma|f16c|amx\w*|asimd\w*|sve\w*|sme(?!p)\w*|i8mm|bf16")


def processor() -> str:
    """Its name."""
    return _line("model name") or platform.processor() or platform.machine()


def features() -> list[str] | None:
    """The instructions that kernels may use, sorted; None where the system does not say."""
    words = (_line("flags") or _line("Features")).split()
    return sorted(filter(_FEATURES.fullmatch, words)) if words else None


def memory() -> int | None:
    """Of the machine, in bytes; None where the system does not say (Windows, where an allocation that is too large
    fails at once)."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def described() -> dict[str, Any]:
    return {
        "system": platform.system(),
        "architecture": platform.machine(),
        "processor": processor(),
        "features": features(),
        "cores": os.cpu_count() or 1,
    }


def versions() -> dict[str, str]:
    """Of what takes part in every text."""
    from importlib.metadata import version  # 10 ms that every command would pay

    return {"gpt2cli": version("gpt2cli"), "onnxruntime": runtime.VERSION, "numpy": np.__version__}


def versions_of(*packages: str) -> dict[str, str | None]:
    """Of other packages; None where one is not here."""
    from importlib.metadata import PackageNotFoundError, version

    found: dict[str, str | None] = {}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def _line(name: str) -> str:
    """What Linux says of the first processor; empty elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.partition("\t")[0].strip() == name), "")
