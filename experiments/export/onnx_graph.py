"""A JAX function as an ONNX model: each primitive becomes one operator or a few.

It knows the primitives that this project's models use, and names any other. What depends on constants alone is computed
here. A broadcast is left to the operators, which broadcast by themselves, until one needs the whole array.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import onnx  # pyright: ignore[reportMissingImports]
from jax.export import is_symbolic_dim
from jax.extend.core import ClosedJaxpr, Literal
from onnx import helper, numpy_helper  # pyright: ignore[reportMissingImports]

OPSET, IR_VERSION = 18, 9
PLATFORM = "cpu"  # whose branch is taken where a function has several; they differ in speed alone

OPERATORS = {
    **{"add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "max": "Max", "min": "Min", "pow": "Pow"},
    **{"exp": "Exp", "log": "Log", "neg": "Neg", "abs": "Abs", "sqrt": "Sqrt", "sign": "Sign", "logistic": "Sigmoid"},
    **{"lt": "Less", "le": "LessOrEqual", "gt": "Greater", "ge": "GreaterOrEqual", "eq": "Equal"},
    **{"floor": "Floor", "and": "And", "or": "Or", "not": "Not"},
}
CALLS = {"jit", "pjit", "closed_call", "custom_jvp_call", "custom_vjp_call"}
UNCHANGED = {"stop_gradient", "optimization_barrier", "copy", "copy_p"}


@dataclass(frozen=True)
class Value:
    """An array that depends on the model's input.

    Attributes:
      name: in the graph.
      shape: which broadcasts to the shape that JAX has.
    """

    name: str
    shape: tuple[Any, ...]


Known = np.ndarray | Value


class NoOnnxError(ValueError):
    """An operation of JAX that has no ONNX form here; the message is one line."""


def to_onnx(
    function: Callable[[Any], Mapping[str, Any]], name: str, like: jax.ShapeDtypeStruct, metadata: Mapping[str, str]
) -> onnx.ModelProto:
    """Converts a function of one array.

    Args:
      function: from an array to arrays by name.
      name: of its input.
      like: shape and dtype of its input; the first dimension is a symbol of `jax.export.symbolic_shape`.
      metadata: what the model says of itself.

    Returns:
      The model, checked.
    """
    traced = jax.jit(function).trace(like)
    graph = Graph(Value(name, like.shape))
    outputs = sorted(traced.out_info.items())  # in the order in which JAX has a dictionary's values
    with jax.enable_x64(True):  # or constants of 64 bits would be cut
        found = graph.run(traced.jaxpr, [graph.input])
    for value, (output, of) in zip(found, outputs, strict=True):
        graph.add("Identity", graph.whole(value, of.shape), output=output)
    made = helper.make_graph(
        graph.nodes,
        "vae_jax",
        [_described(name, like)],
        [_described(*output) for output in outputs],
        [numpy_helper.from_array(array, of) for of, array in graph.constants.items()],
    )
    opsets = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(made, opset_imports=opsets, ir_version=IR_VERSION, producer_name="vae_jax")
    helper.set_model_props(model, dict(metadata))
    onnx.checker.check_model(model, full_check=True)
    return model


def _described(name: str, of: Any) -> onnx.ValueInfoProto:
    shape = [str(size) if is_symbolic_dim(size) else size for size in of.shape]
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(of.dtype)), shape)


class Graph:
    """A graph in the making.

    Attributes:
      input: of the model.
      nodes: in the order of computation.
      constants: by name.
    """

    def __init__(self, of_input: Value):
        self.input = of_input
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}

    def run(self, closed: ClosedJaxpr, inputs: Sequence[Known]) -> list[Known]:
        """Adds the nodes of a program, and returns its outputs."""
        jaxpr = closed.jaxpr
        known: dict[Any, Known] = dict(zip(jaxpr.constvars, map(np.asarray, closed.consts), strict=True))
        known.update(zip(jaxpr.invars, inputs, strict=True))

        def read(atom: Any) -> Known:
            if isinstance(atom, Literal):
                return np.asarray(atom.val, atom.aval.dtype)  # pyright: ignore[reportAttributeAccessIssue]
            return known[atom]

        for equation in _needed(jaxpr):
            results = self._equation(equation, [read(atom) for atom in equation.invars])
            known.update(zip(equation.outvars, results, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def _equation(self, equation: Any, values: list[Any]) -> list[Known]:
        name, params, out = equation.primitive.name, equation.params, equation.outvars[0].aval
        if name == "platform_index":
            branches = params["platforms"]
            return [np.asarray(next(i for i, of in enumerate(branches) if of is None or PLATFORM in of), np.int32)]
        if name == "cond" and isinstance(values[0], np.ndarray):
            return self.run(params["branches"][int(values[0])], values[1:])
        if name in CALLS:
            return self.run(params.get("jaxpr", params.get("call_jaxpr")), values)
        if name == "scan":
            return self._scan(equation, values)
        if name in UNCHANGED:
            return values
        if name == "broadcast_in_dim":
            return [self.with_axes(values[0], set(range(len(out.shape))) - set(params["broadcast_dimensions"]))]
        if not any(isinstance(value, Value) for value in values) and not _depends_on_rows(equation):
            whole = [np.broadcast_to(of, atom.aval.shape) for of, atom in zip(values, equation.invars, strict=True)]
            found = equation.primitive.bind(*whole, **params)
            return list(map(np.asarray, found if equation.primitive.multiple_results else [found]))
        if name in OPERATORS:
            return [self.broadcast(OPERATORS[name], *values)]
        if name in BROADCASTING:
            return [BROADCASTING[name](self, params, out.dtype, *values)]
        if name not in WHOLE:
            raise NoOnnxError(f"the operation {name} of JAX has no ONNX form here")
        whole = [self.whole(value, atom.aval.shape) for value, atom in zip(values, equation.invars, strict=True)]
        return [Value(WHOLE[name](self, params, out.shape, *whole), out.shape)]

    def _scan(self, equation: Any, values: list[Any]) -> list[Known]:
        """Adds a loop, such as one over a polynomial's coefficients or over features, step by step."""
        params = equation.params
        body = params["jaxpr"].jaxpr
        # What is carried has the shape that it has in a step; what a step takes or gives is an item of an array.
        carried = sum(of.aval.shape == whole.aval.shape for of, whole in _pairs(body.outvars, equation.outvars))
        items = sum(of.aval.shape != whole.aval.shape for of, whole in _pairs(body.invars, equation.invars))
        consts = len(values) - items - carried
        fixed, state, passed = values[:consts], values[consts : consts + carried], values[consts + carried :]
        steps, found = list(range(params["length"])), {}
        for i in reversed(steps) if params["reverse"] else steps:
            results = self.run(params["jaxpr"], [*fixed, *state, *(self._item(of, i) for of in passed)])
            state, found[i] = results[:carried], results[carried:]
        stacked = []
        for i, atom in enumerate(body.outvars[carried:]):
            rows = [self.with_axes(self.whole(found[step][i], atom.aval.shape), {0}) for step in steps]
            stacked.append(Value(self.add("Concat", *rows, axis=0), (len(steps), *atom.aval.shape)))
        return [*state, *stacked]

    def _item(self, values: Known, i: int) -> Known:
        """One item along the first axis."""
        if isinstance(values, np.ndarray):
            return np.asarray(values[i])
        return Value(self.add("Gather", values, np.array(i), axis=0), values.shape[1:])

    def add(self, operator: str, *inputs: Known, output: str | None = None, **attributes: Any) -> str:
        """Adds a node, and returns the name of its output."""
        output = output or f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, [self._name(value) for value in inputs], [output], **attributes))
        return output

    def broadcast(self, operator: str, *values: Known, **attributes: Any) -> Value:
        """Adds a node of an operator that broadcasts."""
        shape = tuple(_broadcast(sizes) for sizes in zip(*_aligned([value.shape for value in values]), strict=True))
        return Value(self.add(operator, *values, **attributes), shape)

    def whole(self, value: Known, shape: tuple[Any, ...]) -> Known:
        """The value in the shape that JAX has."""
        if tuple(value.shape) == tuple(shape):
            return value
        if isinstance(value, np.ndarray) and not any(map(is_symbolic_dim, shape)):
            return np.broadcast_to(value, shape)
        return Value(self.add("Expand", value, self._shape(shape)), tuple(shape))

    def with_axes(self, value: Known, axes: set[int]) -> Known:
        """The value with new axes of size 1."""
        if isinstance(value, np.ndarray):
            return np.expand_dims(value, tuple(axes))
        if not axes:
            return value
        old = iter(value.shape)
        shape = tuple(1 if i in axes else next(old) for i in range(len(axes) + len(value.shape)))
        return Value(self.add("Unsqueeze", value, _integers(sorted(axes))), shape)

    def _shape(self, shape: Sequence[Any]) -> Known:
        """A shape as an array, with the number of rows as it is when the model runs."""
        rows = Value(self.add("Shape", self.input, start=0, end=1), (1,))
        parts: list[Known] = [
            Value(self.add("Mul", rows, _integers([int(size // self.input.shape[0])])), (1,))
            if is_symbolic_dim(size)
            else _integers([size])
            for size in shape
        ]
        return Value(self.add("Concat", *parts, axis=0), (len(shape),))

    def _name(self, value: Known) -> str:
        if isinstance(value, Value):
            return value.name
        name = f"c{len(self.constants)}"
        self.constants[name] = np.array(value, order="C")
        return name


def _pairs(of_body: Sequence[Any], of_equation: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
    return zip(of_body, of_equation, strict=True)


def _needed(jaxpr: Any) -> Iterator[Any]:
    """The equations that the outputs depend on, in order."""
    wanted, kept = {atom for atom in jaxpr.outvars if not isinstance(atom, Literal)}, []
    for equation in reversed(jaxpr.eqns):
        if wanted & set(equation.outvars):
            wanted |= {atom for atom in equation.invars if not isinstance(atom, Literal)}
            kept.append(equation)
    return reversed(kept)


def _depends_on_rows(equation: Any) -> bool:
    return any(is_symbolic_dim(size) for of in (*equation.invars, *equation.outvars) for size in of.aval.shape)


def _aligned(shapes: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    rank = max(map(len, shapes))
    return [(1,) * (rank - len(shape)) + tuple(shape) for shape in shapes]


def _broadcast(sizes: tuple[Any, ...]) -> Any:
    return next((size for size in sizes if is_symbolic_dim(size) or size != 1), 1)


def _integers(numbers: Sequence[int] | np.ndarray) -> np.ndarray:
    return np.array(list(numbers), np.int64)


def _select(graph: Graph, params: Any, dtype: Any, which: Known, *cases: Known) -> Value:
    no, yes = cases
    return graph.broadcast("Where", which, yes, no)


def _cast(graph: Graph, params: Any, dtype: Any, x: Value) -> Value:
    return Value(graph.add("Cast", x, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype))), x.shape)


def _power(graph: Graph, params: Any, dtype: Any, x: Value) -> Value:
    exponent = params.get("y", 2)
    return graph.broadcast("Mul", x, x) if exponent == 2 else graph.broadcast("Pow", x, np.array(exponent, dtype))


def _clamp(graph: Graph, params: Any, dtype: Any, low: Known, x: Known, high: Known) -> Value:
    return graph.broadcast("Min", graph.broadcast("Max", x, low), high)


def _polynomial(graph: Graph, params: Any, dtype: Any, x: Known, *coefficients: Known) -> Value:
    """Coefficients come by rising powers."""
    *others, total = coefficients
    for of in reversed(others):
        total = graph.broadcast("Add", graph.broadcast("Mul", total, x), of)
    assert isinstance(total, Value)
    return total


def _is_finite(graph: Graph, params: Any, dtype: Any, x: Value) -> Value:
    return graph.broadcast("Not", graph.broadcast("Or", graph.broadcast("IsNaN", x), graph.broadcast("IsInf", x)))


def _not_equal(graph: Graph, params: Any, dtype: Any, x: Known, y: Known) -> Value:
    return graph.broadcast("Not", graph.broadcast("Equal", x, y))


def _transpose(graph: Graph, params: Any, dtype: Any, x: Value) -> Value:
    order = params["permutation"]
    return Value(graph.add("Transpose", x, perm=list(order)), tuple(x.shape[i] for i in order))


def _log1p(graph: Graph, params: Any, dtype: Any, x: Value) -> Value:
    """log(u) * x / (u - 1) with u = 1 + x, whose rounding errors cancel (Goldberg 1991, theorem 4)."""
    one = np.ones((), dtype)
    u = graph.broadcast("Add", x, one)
    less = graph.broadcast("Sub", u, one)
    small = graph.broadcast("Or", graph.broadcast("Equal", u, one), graph.broadcast("IsInf", u))
    exact = graph.broadcast("Mul", graph.broadcast("Log", u), graph.broadcast("Div", x, less))
    return graph.broadcast("Where", small, x, exact)


def _expm1(graph: Graph, params: Any, dtype: Any, x: Value) -> Value:
    """Near 0, (u - 1) * x / log(u) with u = exp(x), whose rounding errors cancel as those of `_log1p` do."""
    one = np.ones((), dtype)
    u = graph.broadcast("Exp", x)
    less = graph.broadcast("Sub", u, one)
    exact = graph.broadcast("Mul", less, graph.broadcast("Div", x, graph.broadcast("Log", u)))
    near = graph.broadcast("Less", graph.broadcast("Abs", x), np.array(0.5, dtype))
    return graph.broadcast("Where", graph.broadcast("Equal", u, one), x, graph.broadcast("Where", near, exact, less))


def _reduced(operator: str) -> Callable[..., str]:
    return lambda graph, params, shape, x: graph.add(operator, x, _integers(params["axes"]), keepdims=0)


def _reshape(graph: Graph, params: Any, shape: tuple[Any, ...], x: Known) -> str:
    if sum(map(is_symbolic_dim, shape)) > 1:
        raise NoOnnxError(f"reshape to {shape}: more than one size depends on the number of rows")
    return graph.add("Reshape", x, _integers([-1 if is_symbolic_dim(size) else size for size in shape]))


def _concatenate(graph: Graph, params: Any, shape: tuple[Any, ...], *parts: Known) -> str:
    return graph.add("Concat", *parts, axis=params["dimension"])


def _stack(graph: Graph, params: Any, shape: tuple[Any, ...], *parts: Known) -> str:
    axis = params["axis"]
    return graph.add("Concat", *(graph.with_axes(part, {axis}) for part in parts), axis=axis)


def _slice(graph: Graph, params: Any, shape: tuple[Any, ...], x: Value) -> str:
    starts, ends = params["start_indices"], params["limit_indices"]
    strides = params["strides"] or [1] * len(starts)
    axes = [i for i, size in enumerate(x.shape) if (starts[i], ends[i], strides[i]) != (0, size, 1)]
    ranges = (starts, ends, range(len(starts)), strides)
    return graph.add("Slice", x, *(_integers([of[i] for i in axes]) for of in ranges))


def _pad(graph: Graph, params: Any, shape: tuple[Any, ...], x: Value, filling: Known) -> str:
    config = params["padding_config"]
    if any(between or low < 0 or high < 0 for low, high, between in config):
        raise NoOnnxError("padding between elements, or of a negative width, has no ONNX form here")
    return graph.add("Pad", x, _integers([low for low, _, _ in config] + [high for _, high, _ in config]), filling)


def _squeeze(graph: Graph, params: Any, shape: tuple[Any, ...], x: Value) -> str:
    return graph.add("Squeeze", x, _integers(params["dimensions"]))


def _product(graph: Graph, params: Any, shape: tuple[Any, ...], left: Known, right: Known) -> str:
    ((of_left,), (of_right,)), batch = params["dimension_numbers"]
    if any(batch) or len(right.shape) != 2:
        raise NoOnnxError("a product of more than a matrix at a time has no ONNX form here")
    left = _moved(graph, left, of_left, len(left.shape) - 1)
    return graph.add("MatMul", left, _moved(graph, right, of_right, 0))


def _moved(graph: Graph, array: Known, axis: int, to: int) -> Known:
    order = [i for i in range(len(array.shape)) if i != axis]
    order.insert(to, axis)
    if isinstance(array, np.ndarray):
        return array.transpose(order)
    if order == sorted(order):
        return array
    return _transpose(graph, {"permutation": order}, None, array)


def _gather(graph: Graph, params: Any, shape: tuple[Any, ...], table: Known, places: Known) -> str:
    """A slice, which JAX writes so if the number of rows is a symbol, or values looked up in a table of one axis."""
    if isinstance(places, np.ndarray) and places.ndim == 1:
        axes = params["dimension_numbers"].start_index_map
        sizes = [params["slice_sizes"][axis] for axis in axes]
        cut = graph.add("Slice", table, _integers(places), _integers(places + sizes), _integers(axes))
        dropped = params["dimension_numbers"].collapsed_slice_dims
        return graph.add("Squeeze", Value(cut, ()), _integers(dropped)) if dropped else cut
    if len(table.shape) != 1 or places.shape[-1] != 1 or params["slice_sizes"] != (1,):
        raise NoOnnxError("looking up in a table of more than one axis has no ONNX form here")
    return graph.add("Gather", table, Value(graph.add("Squeeze", places, _integers([-1])), shape))


# Operators that broadcast, and those for which nothing is left to broadcast.
BROADCASTING: dict[str, Callable[..., Value]] = {
    "select_n": _select,
    "convert_element_type": _cast,
    "integer_pow": _power,
    "square": _power,
    "clamp": _clamp,
    "is_finite": _is_finite,
    "ne": _not_equal,
    "transpose": _transpose,
    "log1p": _log1p,
    "expm1": _expm1,
    "polynomial": _polynomial,
}
WHOLE: dict[str, Callable[..., str]] = {
    "reduce_sum": _reduced("ReduceSum"),
    "reduce_max": _reduced("ReduceMax"),
    "reshape": _reshape,
    "concatenate": _concatenate,
    "stack": _stack,
    "slice": _slice,
    "pad": _pad,
    "squeeze": _squeeze,
    "dot_general": _product,
    "gather": _gather,
}
