"""The parameters of a text as plain data, from which the page builds its settings: those of generation/parameters.py,
with the defaults of `gpt2 generate`."""

from math import inf
from typing import Any, get_args

from gpt2cli.generation.parameters import Limits, Sampling, parameters


def plain() -> list[dict[str, Any]]:
    found = []
    for group, kind in ("Sampling", Sampling), ("Length", Limits):
        defaults = kind()
        for name, (parameter, one) in parameters(kind).items():
            flags = [*parameter.flags, f"--{name.replace('_', '-')}"]
            kinds = get_args(one.type) or (one.type,)
            value = getattr(defaults, name)
            found.append(
                {
                    "name": name,
                    "flag": next(flag for flag in flags if flag.startswith("--")),
                    "help": parameter.help,
                    "default": list(value) if isinstance(value, tuple) else value,
                    "least": None if parameter.least == -inf else parameter.least,
                    "most": None if parameter.most == inf else parameter.most,
                    "kind": next((word for one, word in _KINDS.items() if one in kinds), "other"),
                    "group": group,
                }
            )
    return found


_KINDS: dict[type, str] = {bool: "bool", int: "int", float: "float", str: "text list"}
