"""A model as one ONNX graph: a patient's columns in, the prediction in the study's units out.

The encoding is inside, so that whoever runs the graph needs neither Polyclinic nor the study.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np

from polyclinic_common.bundle.opening import NO_DEVICE, SIMULATED
from polyclinic_common.data.encoding import Encoding
from polyclinic_common.errors import BundleError, Code
from polyclinic_common.models.head import build_network
from polyclinic_common.models.natural import outcome_scale
from polyclinic_common.models.score_head import Vector, Weights, cut, refuse_misfit
from polyclinic_common.rowwise import LARGEST_LOGIT
from polyclinic_common.study.manifest import Study
from polyclinic_common.study.outcomes import Continuous, Outcome, Survival

if TYPE_CHECKING:
    from polyclinic_common.bundle.bundle import Bundle
    from polyclinic_common.bundle.onnx_nodes import Nodes


def onnx_of_bundle(bundle: Bundle) -> bytes:
    """Return the model of a bundle as an ONNX file that says where it comes from."""
    facts = bundle.facts
    properties = {
        "study": facts.study,
        "study_version": facts.study_version,
        "study_hash": facts.study_hash,
        "run": facts.run,
        "bundle": bundle.digest,
        "polyclinic": facts.version,
        "made": facts.made,
        **({"simulated": SIMULATED} if facts.simulated else {}),
    }
    return onnx_model(bundle.study, bundle.model.weights, properties)


def onnx_model(study: Study, weights: Vector, properties: Mapping[str, str] | None = None) -> bytes:
    """Return a model as an ONNX file (``docs/onnx.md``).

    Parameters
    ----------
    study : Study
        The study that the model is of.
    weights : array of shape (d,)
        Its weights.
    properties : mapping of str to str, optional
        What is kept in the file beside the graph. That it is no medical device always is.

    Raises
    ------
    BundleError
        B050 if the package onnx is not installed.
    ModelError
        M002 if the weights do not fit the study.
    """
    _refuse_absent()
    from polyclinic_common.bundle.onnx_columns import add_columns  # noqa: PLC0415  (extra onnx)
    from polyclinic_common.bundle.onnx_nodes import Nodes  # noqa: PLC0415

    encoding, nodes = Encoding(study), Nodes()
    network = build_network(study, encoding)
    refuse_misfit(network, weights)
    layers = cut(network, weights)
    score = _add_score(nodes, layers, add_columns(nodes, encoding))
    logits = nodes.add("Add", score, nodes.constant(encoding.intercept * layers.baseline[None, :]))
    _add_outputs(nodes, study.outcome, logits)
    said = {"notice": NO_DEVICE} | dict(properties or {})
    words = " ".join([said.get("simulated", ""), f"{study.title}.", NO_DEVICE]).strip()
    return nodes.model(study.id, words, said)


def _refuse_absent() -> None:
    if find_spec("onnx") is None:
        raise BundleError(
            Code.ONNX_ABSENT,
            "The model cannot be exported: the package onnx is not installed.",
            "Install the extra: pip install 'polyclinic[onnx]'.",
        )


def _add_score(nodes: Nodes, layers: Weights, rows: str) -> str:
    """Add the layers of the score, shape (n, 1), over encoded rows without intercept."""
    for matrix, bias in layers.hidden:
        product = nodes.add("MatMul", rows, nodes.constant(matrix.T))
        rows = nodes.add("Tanh", nodes.add("Add", product, nodes.constant(bias)))
    return nodes.add("MatMul", rows, nodes.constant(layers.last[:, None]))


def _add_outputs(nodes: Nodes, outcome: Outcome, logits: str) -> None:
    """Add what `polyclinic_common.models.predict.from_logits` gives."""
    if isinstance(outcome, Continuous):
        value = _outcome_of(nodes, outcome, logits)
        nodes.output("prediction", value, 1, f"{outcome.column}, {outcome.unit}")
    elif isinstance(outcome, Survival):
        risk = nodes.add("ReduceMean", logits, nodes.constant(np.array([1])), keepdims=1)
        nodes.output("risk", risk, 1, "Risk score: the higher, the earlier the event.")
        ends = ", ".join(f"{end:g}" for end in outcome.grid)
        words = f"Probability to be free of the event until {ends} {outcome.unit}."
        nodes.output("survival", _survival(nodes, logits), len(outcome.grid), words)
    else:
        value = _expit(nodes, logits)
        words = f"Probability of {outcome.column} = {outcome.positive}."
        nodes.output("prediction", value, 1, words)


def _outcome_of(nodes: Nodes, outcome: Continuous, unit: str) -> str:
    """Add `polyclinic_common.data.encoding.inverse_transform`."""
    half, middle = outcome_scale(outcome)
    scaled = nodes.add("Mul", unit, nodes.constant(half))
    inner = nodes.clamped(nodes.minus(scaled, -middle), middle - half, middle + half)
    if outcome.transform == "sqrt":
        return nodes.add("Mul", inner, inner)
    return nodes.add("Exp", inner) if outcome.transform == "log" else inner


def _expit(nodes: Nodes, logits: str) -> str:
    return nodes.add("Sigmoid", nodes.clamped(logits, -LARGEST_LOGIT, LARGEST_LOGIT))


def _survival(nodes: Nodes, logits: str) -> str:
    """Add the products of the intervals' probabilities to pass them without the event."""
    passed = nodes.add("Log", _expit(nodes, nodes.add("Neg", logits)))
    return nodes.add("Exp", nodes.add("CumSum", passed, nodes.constant(np.array(1))))
