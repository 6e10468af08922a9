"""How an int8 export rounds: the form of each matrix, and the channels that are balanced first.

Balancing (SmoothQuant, Xiao et al. 2022, https://arxiv.org/abs/2211.10438) divides a channel of what goes into a matrix
and multiplies the matrix's row by the same number, so that channels that are larger than the others do not decide the
grid on which all are rounded. The numbers are powers of two: in floating point the product stays what it was."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from gpt2cli.export.checkpoint import TABLES
from gpt2cli.export.quantize import column_scales, to_int8

Array = np.ndarray[Any, np.dtype[Any]]

_NORMS = {"attn.c_attn.weight": "ln_1", "mlp.c_fc.weight": "ln_2"}  # whose outputs go into these matrices alone
_POWERS = (0.25, 0.5, 0.75)  # of the ratio of the channels
_WORTH = 0.9  # the part of the error that must be left over for the channels to be balanced
# A sample is enough to tell which matrices are hard to round: rows of the text, columns of the matrix.
_ROWS, _COLUMNS = 64, 1024
_SHARES = (0, 1 / 6, 1 / 3)  # of the matrices that are tried in the finer of two forms


class Form(NamedTuple):
    """Bits of a matrix and of what it is multiplied by. Weights of 7 bits are faster than of 8 on x86 without VNNI;
    activations of 16 bits are twice the work, and little more than the rounding of the weights is lost."""

    weight_bits: int = 8
    activation_bits: int = 8


_PLAIN = Form()
_LADDER = [Form(7, 8), Form(8, 8), Form(8, 16)]  # the fastest first


@dataclass(frozen=True)
class Rounding:
    """Of all matrices of an export. `finer` are those, by their names, that have another form than the rest; `factors`
    the numbers [in] by which their inputs are divided and their rows multiplied. `unsigned`: 8 bits are stored with 128
    added, as x86 without VNNI multiplies them exactly."""

    form: Form = _PLAIN
    unsigned: bool = False
    finer: Mapping[str, Form] = field(default_factory=dict)
    factors: Mapping[str, Array] = field(default_factory=dict)

    def of(self, matrix: str) -> Form:
        return self.finer.get(matrix, self.form)

    @property
    def saturates(self) -> bool:
        """Whether sums of two products may exceed 16 bits, in which some processors add them."""
        return not self.unsigned and any(form.weight_bits == 8 for form in (self.form, *self.finer.values()))

    def norm(self, name: str) -> Array | None:
        """The factors of the outputs of a layer norm, by the name of its weight or bias."""
        norm, _, _ = name.rpartition(".")
        block, _, kind = norm.rpartition(".")
        behind = next((matrix for matrix, before in _NORMS.items() if before == kind), "")
        return self.factors.get(f"{block}.{behind}")


class Study:
    """What the matrices of a checkpoint do to a text, and what rounding each of them alone would cost: `logits` of
    reference.py shows it one after another."""

    def __init__(self) -> None:
        self.factors: dict[str, Array] = {}
        self._errors: dict[str, dict[Form, float]] = {}

    def __call__(self, name: str, x: Array, weight: Array, product: Array, stream: Array | None) -> None:
        """`product` [T, out] is x [T, in] @ weight [in, out]; `stream` [T, out] what it is added to, where it is."""
        if stream is not None:
            whole = float(((stream + product) ** 2).mean())
        elif name in TABLES:  # what all logits have in common says nothing
            whole = float(product.var(axis=1).mean())
        else:
            whole = float((product**2).mean())
        rows = x[:: max(1, len(x) // _ROWS)]
        sample = weight[:, :: max(1, weight.shape[1] // _COLUMNS)]
        exact = rows @ sample
        factors = np.ones(len(weight), np.float32)
        if name in TABLES or name.split(".", 2)[-1] in _NORMS:
            least = _error(rows, sample, exact, _PLAIN)
            largest = np.abs(x).max(axis=0), np.abs(weight).max(axis=1)
            for power in _POWERS:
                tried = balanced(*largest, power)
                error = _error(rows / tried, sample * tried[:, None], exact, _PLAIN)
                if error < least * _WORTH:
                    least, factors = error, tried
        if (factors != 1).any():
            self.factors[name] = factors
            rows, sample = rows / factors, sample * factors[:, None]
        self._errors[name] = {form: _error(rows, sample, exact, form) / max(whole, 1e-30) for form in _LADDER}

    def roundings(self, *, saturates: bool) -> Iterator[Rounding]:
        """What is worth a try, the fastest first: between two forms, with the finer for those that lose most in the
        coarser. `saturates`: the processor's fast kernels for 8 bits do."""
        ladder = _LADDER if saturates else [form for form in _LADDER if form.weight_bits == 8]
        for coarse, fine in pairwise(ladder):
            gains = {name: errors[coarse] - errors[fine] for name, errors in self._errors.items()}
            worst = sorted(gains, key=gains.__getitem__, reverse=True)
            for share in _SHARES:
                finer = dict.fromkeys(worst[: math.ceil(share * len(worst))], fine)
                yield Rounding(coarse, saturates, finer, self.factors)
        yield Rounding(ladder[-1], saturates, {}, self.factors)


def balanced(inputs: Array, rows: Array, power: float) -> Array:
    """The largest input [in] and weight [in] of each channel -> its factor, a power of two, 1 in the mean."""
    known = (inputs > 0) & (rows > 0) & np.isfinite(inputs)
    exponents = np.zeros(len(inputs))
    if known.any():
        with np.errstate(divide="ignore"):
            ratios = np.log2(inputs, dtype=np.float64)[known] - np.log2(rows, dtype=np.float64)[known]
        exponents[known] = (ratios - np.median(ratios)) * power
    factors: Array = np.exp2(np.rint(np.clip(exponents, -20, 20))).astype(np.float32)
    return factors


def _error(x: Array, weight: Array, exact: Array, form: Form) -> float:
    """The mean square of what rounding adds to a product. With 16 bits, activations are taken as they are."""
    if form.activation_bits == 8:
        least = x.min(axis=1, keepdims=True)
        step = np.maximum(x.max(axis=1, keepdims=True) - least, np.float32(1e-30)) / 255
        x = np.rint((x - least) / step) * step + least
    scales = column_scales(weight, form.weight_bits)
    rounded = to_int8(weight, scales, form.weight_bits) * scales
    return float(((x @ rounded - exact) ** 2).mean())
