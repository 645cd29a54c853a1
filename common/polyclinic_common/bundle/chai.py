"""The card as an applied model card of the Coalition for Health AI (CHAI), in XML.

Elements and their order are those of the coalition's public schema, version 0.2
(``https://mc.chai.org/v0.2/schema.xsd``, repository coalition-for-health-ai/mc-schema). A required
element that nobody filled says so; an optional one is left out. Texts may hold Markdown, and values
are JSON of the kind ``estimate_ci``, or ``null`` where there is no number, as the schema's notes
and examples have it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from xml.etree import ElementTree as ET

from polyclinic_common.bundle.bias import LOST
from polyclinic_common.bundle.card import ONLY_SIMULATED, Card, Item
from polyclinic_common.bundle.figures import Table
from polyclinic_common.evaluation.interval import Reading

NAMESPACE = "https://mc.chai.org/v0.2/schema.xsd"
NOTHING = "No figure was released"
NO_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
Results = Sequence[tuple[str, Reading | None, str]]
"""Label, figure and unit of every result."""

OPTIONAL = frozenset({"EHRCompatibility", "ThirdPartyInformation", "ClinicalTrial",
                      "ReimbursementStatus"})  # fmt: skip
"""Elements that are left out where nobody filled them."""
SECTIONS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "BasicInfo": {
        "ModelName": ("tripod.1",),
        "ModelDeveloper": ("chai.ModelDeveloper",),
        "DeveloperContact": ("chai.DeveloperContact",),
    },
    "ReleaseInfo": {
        "ReleaseStage": ("chai.ReleaseStage",),
        "ReleaseDate": ("chai.ReleaseDate",),
        "ReleaseVersion": ("chai.ReleaseVersion",),
        "GlobalAvailability": ("chai.GlobalAvailability",),
        "EHRCompatibility": ("chai.EHRCompatibility",),
        "RegulatoryApproval": ("chai.RegulatoryApproval",),
    },
    "ModelSummary": {
        "Summary": ("tripod.2",),
        "Keywords": ("chai.Keywords",),
    },
    "UsesAndDirections": {
        "IntendedUseAndWorkflow": ("use.intended", "chai.IntendedUseAndWorkflow"),
        "PrimaryIntendedUsers": ("chai.PrimaryIntendedUsers", "tripod.27b"),
        "HowToUse": ("chai.HowToUse",),
        "TargetedPatientPopulation": ("tripod.3b",),
        "CautionedOutOfScopeSettings": ("use.limits", "chai.CautionedOutOfScopeSettings"),
    },
    "Warnings": {
        "KnownRisksAndLimitations": ("tripod.26", "tripod.26.people"),
        "KnownBiasesOrEthicalConsiderations": (
            "tripod.14",
            "tripod.3c",
            "chai.KnownBiasesOrEthicalConsiderations",
        ),
        "ClinicalRiskLevel": ("chai.ClinicalRiskLevel",),
    },
    "AISystemFacts": {
        "OutcomesAndOutputs": ("tripod.8a", "tripod.15"),
        "ModelType": ("tripod.12c",),
        "InputDataSource": ("tripod.9b",),
        "OutputAndInputDataTypes": ("tripod.15", "tripod.12b"),
        "DevelopmentDataCharacterization": (
            "tripod.21",
            "tripod.5a",
            "tripod.5b",
            "tripod.6b",
            "tripod.20b",
        ),
        "BiasMitigationApproaches": ("tripod.14",),
        "OngoingMaintenance": ("maintenance.tools", "chai.OngoingMaintenance"),
        "Security": ("privacy.promise", "privacy.not_promised"),
        "Transparency": ("tripod.22", "tripod.12g"),
    },
    "TransparencyInformation": {
        "FundingSource": ("tripod.18a",),
        "ThirdPartyInformation": ("chai.ThirdPartyInformation",),
        "StakeholdersConsulted": ("chai.StakeholdersConsulted", "tripod.19"),
    },
    "UsefulnessUsabilityEfficacy": {
        "MetricGoal": ("chai.Goals.usefulness",),
        "Results": (),
        "Interpretation": ("tripod.25", "results.votes"),
        "TestType": ("tripod.16",),
        "TestingDataDescription": ("tripod.12a",),
        "ValidationProcessAndJustification": ("chai.Validation", "tripod.12e"),
    },
    "FairnessEquity": {
        "MetricGoal": ("chai.Goals.fairness",),
        "Results": (),
        "Interpretation": ("tripod.14",),
        "TestType": ("tripod.16",),
        "TestingDataDescription": ("tripod.12a",),
        "ValidationProcessAndJustification": ("chai.Validation",),
    },
    "SafetyReliability": {
        "MetricGoal": ("chai.Goals.safety",),
        "Results": (),
        "Interpretation": ("results.calibration",),
        "TestType": ("tripod.16",),
        "TestingDataDescription": ("tripod.12a",),
        "ValidationProcessAndJustification": ("chai.Validation",),
    },
    "Resources": {
        "EvaluationReferences": ("tripod.18c", "tripod.18d"),
        "ClinicalTrial": ("chai.ClinicalTrial",),
        "PeerReviewedPublications": ("chai.PeerReviewedPublications",),
        "ReimbursementStatus": ("chai.ReimbursementStatus",),
        "PatientConsentOrDisclosure": ("chai.PatientConsentOrDisclosure",),
    },
}
"""Which fields of the card each element holds, section by section."""


def card_xml(card: Card) -> str:
    """Return the card as XML that is valid against CHAI's schema."""
    root = ET.Element(_tag("AppliedModelCard"))
    for section in ("BasicInfo", "ReleaseInfo", "ModelSummary", "UsesAndDirections", "Warnings"):
        _section(root, card, section)
    trust = ET.SubElement(root, _tag("TrustIngredients"))
    _section(trust, card, "AISystemFacts")
    _section(trust, card, "TransparencyInformation")
    metrics = ET.SubElement(root, _tag("KeyMetrics"))
    _section(metrics, card, "UsefulnessUsabilityEfficacy", tuple(_performance(card)))
    _section(metrics, card, "FairnessEquity", tuple(_gaps(card)))
    _section(metrics, card, "SafetyReliability", tuple(_calibration(card)))
    _section(root, card, "Resources")
    ET.SubElement(root, _tag("Bibliography"))
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True, default_namespace=NAMESPACE)


def _tag(name: str) -> str:
    return f"{{{NAMESPACE}}}{name}"


def _section(parent: ET.Element, card: Card, name: str, results: Results = ()) -> None:
    section = ET.SubElement(parent, _tag(name))
    for element, ids in SECTIONS[name].items():
        items = [card.items[each] for each in ids]
        if element == "Results":
            _results(section, results)
        elif element not in OPTIONAL or any(item.value for item in items):
            _element(section, card, element, items)


def _element(section: ET.Element, card: Card, name: str, items: list[Item]) -> None:
    child = ET.SubElement(section, _tag(name))
    if name in {"Keywords", "EHRCompatibility"}:
        for word in _lines(items[0]):
            ET.SubElement(child, _tag("Keyword" if name == "Keywords" else "EHR")).text = _xml(word)
        return
    texts = [_text(item, titled=len(items) > 1) for item in items]
    if card.simulated and name == "Summary":
        texts.insert(0, ONLY_SIMULATED)
    marked = card.simulated and name in {"ModelName", "ReleaseStage"}
    child.text = _xml(("SIMULATED: " if marked else "") + "\n\n".join(texts))


def _results(section: ET.Element, results: Results) -> None:
    parent = ET.SubElement(section, _tag("Results"))
    for label, reading, unit in results or ((NOTHING, None, ""),):
        result = ET.SubElement(parent, _tag("MetricResult"))
        ET.SubElement(result, _tag("Label")).text = _xml(label)
        ET.SubElement(result, _tag("ValueJson")).text = _xml(_value(reading, unit))


def _value(reading: Reading | None, unit: str) -> str:
    if reading is None:
        return "null"
    ends = {"estimate": reading.value, "lower": reading.low, "upper": reading.high, "level": 95}
    return json.dumps({"kind": "estimate_ci", **ends, **({"unit": unit} if unit else {})})


def _performance(card: Card) -> Iterator[tuple[str, Reading | None, str]]:
    for figure in card.performance:
        lost = f": {LOST}" if figure.reading is None else ""
        yield f"{figure.scale.name}{lost}", figure.reading, figure.scale.unit


def _gaps(card: Card) -> Iterator[tuple[str, Reading | None, str]]:
    """Yield how far every group lies from all patients."""
    for table in card.bias:
        for row in table.rows:
            if row.group != table.rows[0].group:
                place = f", {row.place}" if row.place else ""
                label = f"{table.scale.name}, {row.group}{place}, gap to all patients"
                yield f"{label}: {row.judgement}", row.gap, table.scale.unit_apart


def _calibration(card: Card) -> Iterator[tuple[str, Reading | None, str]]:
    if card.calibration is None:
        return
    scale = card.calibration.scale
    for row in card.calibration.rows:
        yield f"{scale.name}, {row.place}: {row.judgement}", row.value, scale.unit


def _text(item: Item, *, titled: bool) -> str:
    lines = _lines(item)
    body = lines[0] if len(lines) == 1 else "\n".join(f"- {line}" for line in lines)
    if not titled:
        return body
    return f"**{item.title}**: {body}" if len(lines) == 1 else f"**{item.title}**:\n\n{body}"


def _lines(item: Item) -> list[str]:
    """Return what a field says, a text for every line, row or paragraph."""
    value = item.value
    if item.source == "empty":
        return [f"Not filled in; to be filled in by the {item.who}."]
    if isinstance(value, Table):
        return [
            "; ".join(f"{name}: {cell}" for name, cell in zip(value.columns, row, strict=True))
            for row in value.rows
        ]
    return value.splitlines() if isinstance(value, str) else list(value)


def _xml(text: str) -> str:
    """Return `text` without letters that XML 1.0 cannot hold."""
    return NO_XML.sub("\ufffd", text)
