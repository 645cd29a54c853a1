"""Nodes of an ONNX graph, one after the other, in double precision.

Operators are those of ONNX 1.15 (opset 20) and of its machine learning domain (version 3). Inner
names begin with ``#``, which no column of a study does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET, ML_OPSET, IR_VERSION = 20, 3, 9
ML = "ai.onnx.ml"
TYPES = {float: TensorProto.DOUBLE, str: TensorProto.STRING}


class Nodes:
    """A graph that grows node by node; every method returns the name of what it made."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []

    def input(self, name: str, kind: type[float | str], width: int, words: str) -> str:
        """Declare an input of shape (n, width), told in `words`."""
        self._inputs.append(_declared(name, kind, width, words))
        return name

    def output(self, name: str, value: str, width: int, words: str) -> None:
        """Give `value`, shape (n, width), out under a name that no input has."""
        while any(each.name == name for each in self._inputs):
            name += "_"
        self._nodes.append(helper.make_node("Identity", [value], [name]))
        self._outputs.append(_declared(name, float, width, words))

    def constant(self, values: NDArray[np.generic] | float) -> str:
        """Keep numbers (as doubles), whole numbers or truth values."""
        name = f"#constant {len(self._constants) + 1}"
        self._constants.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def add(self, operator: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Apply an operator."""
        name = f"#{len(self._nodes) + 1} {operator}"
        node = helper.make_node(operator, list(inputs), [name], domain=domain, **attributes)
        self._nodes.append(node)
        return name

    def lookup(self, words: str, places: Mapping[str, int], other: int) -> str:
        """Return the place of every word, and `other` for those that have none."""
        return self.add(
            "LabelEncoder",
            words,
            domain=ML,
            keys_strings=list(places),
            values_int64s=list(places.values()),
            default_int64=other,
        )

    def where(self, condition: str, one: str, other: str) -> str:
        """Return `one` where the condition holds, else `other`."""
        return self.add("Where", condition, one, other)

    def minus(self, values: str, less: float) -> str:
        """Subtract a number."""
        return self.add("Sub", values, self.constant(less))

    def clamped(self, values: str, low: float, high: float) -> str:
        """Clamp numbers to a range; NaN, which is neither below nor above, stays NaN."""
        least, most = self.constant(low), self.constant(high)
        raised = self.where(self.add("Less", values, least), least, values)
        return self.where(self.add("Greater", raised, most), most, raised)

    def as_number(self, truth: str) -> str:
        """Return 1 for what is true, 0 for what is not."""
        return self.add("Cast", truth, to=TensorProto.DOUBLE)

    def model(self, name: str, words: str, properties: Mapping[str, str]) -> bytes:
        """Return the graph as a file."""
        graph = helper.make_graph(
            self._nodes, name, self._inputs, self._outputs, self._constants, doc_string=words
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(ML, ML_OPSET)]
        model = helper.make_model(
            graph,
            opset_imports=opsets,
            ir_version=IR_VERSION,
            producer_name="Polyclinic",
            doc_string=words,
        )
        helper.set_model_props(model, dict(properties))
        return bytes(model.SerializeToString(deterministic=True))


def _declared(name: str, kind: type[float | str], width: int, words: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TYPES[kind], ["n", width], doc_string=words)
