"""The XML is an applied model card of the Coalition for Health AI: its elements, in its order."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from polyclinic_common.bundle.bias import TOO_FEW
from polyclinic_common.bundle.card import Card
from polyclinic_common.bundle.card_fields import ASKED
from polyclinic_common.bundle.chai import NAMESPACE, SECTIONS, card_xml
from polyclinic_simulations.audit.coverage import study_of
from tests.kits.cards import evaluation_of, made_up_card, made_up_groups, usual_card
from tests.kits.required import unavailable

METRIC = "MetricGoal Results Interpretation TestType TestingDataDescription" + (
    " ValidationProcessAndJustification"
)
RULES = {
    "AppliedModelCard": "BasicInfo ReleaseInfo ModelSummary UsesAndDirections Warnings "
    "TrustIngredients KeyMetrics Resources Bibliography",
    "BasicInfo": "ModelName ModelDeveloper DeveloperContact",
    "ReleaseInfo": "ReleaseStage ReleaseDate ReleaseVersion GlobalAvailability EHRCompatibility? "
    "RegulatoryApproval?",
    "EHRCompatibility": "EHR*",
    "ModelSummary": "Summary Keywords",
    "Keywords": "Keyword*",
    "UsesAndDirections": "IntendedUseAndWorkflow PrimaryIntendedUsers HowToUse "
    "TargetedPatientPopulation CautionedOutOfScopeSettings",
    "Warnings": "KnownRisksAndLimitations KnownBiasesOrEthicalConsiderations ClinicalRiskLevel",
    "TrustIngredients": "AISystemFacts TransparencyInformation",
    "AISystemFacts": "OutcomesAndOutputs ModelType FoundationModels? InputDataSource "
    "OutputAndInputDataTypes DevelopmentDataCharacterization BiasMitigationApproaches "
    "OngoingMaintenance Security? Transparency?",
    "TransparencyInformation": "FundingSource ThirdPartyInformation? StakeholdersConsulted",
    "KeyMetrics": "UsefulnessUsabilityEfficacy FairnessEquity SafetyReliability",
    "UsefulnessUsabilityEfficacy": METRIC,
    "FairnessEquity": METRIC,
    "SafetyReliability": METRIC,
    "Results": "MetricResult+",
    "MetricResult": "Label ValueJson",
    "Resources": "EvaluationReferences? ClinicalTrial? PeerReviewedPublications "
    "ReimbursementStatus? PatientConsentOrDisclosure",
}
"""What the schema, version 0.2, demands of every element; all others hold text alone."""
FILLED = {field.id: "stated" for field in ASKED}


def wrong(element: ET.Element) -> Iterator[str]:
    """Yield where an element breaks the rules of the schema."""
    name = element.tag.removeprefix(f"{{{NAMESPACE}}}")
    left = [child.tag.removeprefix(f"{{{NAMESPACE}}}") for child in element]
    if name in RULES and (element.text or "").strip():
        yield f"{name} holds text"
    for rule in RULES.get(name, "").split():
        called, times = rule.rstrip("?*+"), 0
        while left and left[0] == called:
            left, times = left[1:], times + 1
        if times == 0 and rule[-1] not in "?*":
            yield f"{name} lacks {called}"
        if times > 1 and rule[-1] not in "*+":
            yield f"{name} has {called} twice"
    if left:
        yield f"{name} has {left[0]} out of place"
    for child in element:
        yield from wrong(child)


def cards() -> dict[str, Card]:
    return {
        "usual": usual_card(),
        "filled": usual_card(FILLED, simulated=True),
        "no figures": made_up_card(study_of("continuous"), evaluation_of(())),
        "survival": made_up_card(
            study_of("survival"), evaluation_of(made_up_groups("survival", 3000))
        ),
    }


@pytest.mark.parametrize("name", ["usual", "filled", "no figures", "survival"])
def test_the_xml_keeps_the_rules_of_the_schema(name: str) -> None:
    assert list(wrong(ET.fromstring(card_xml(cards()[name])))) == []  # noqa: S314


def test_the_rules_find_what_is_out_of_place() -> None:
    root = ET.fromstring(card_xml(usual_card()))  # noqa: S314
    info = root[0]
    info.append(info[0])
    del root[7][-1], root[6][0][1][:]
    assert list(wrong(root)) == [
        "BasicInfo has ModelName out of place",
        "Results lacks MetricResult",
        "Resources lacks PatientConsentOrDisclosure",
    ]


@pytest.mark.realdata
@pytest.mark.parametrize("name", ["usual", "filled", "no figures", "survival"])
def test_the_xml_is_valid_against_the_public_schema(name: str, realdata: Path) -> None:
    schema = realdata / "chai" / "applied-model-card-0.2.xsd"
    if find_spec("xmlschema") is None or not schema.is_file():
        unavailable("chai", f"install xmlschema and put CHAI's schema there: {schema}")
    import xmlschema

    package = Path(xmlschema.__file__).parent
    signatures = package / "schemas" / "DSIG" / "xmldsig-core-schema.xsd"
    read = xmlschema.XMLSchema(
        str(schema),
        locations={"http://www.w3.org/2000/09/xmldsig#": str(signatures)},
        allow="local",
    )
    read.validate(card_xml(cards()[name]))
    with pytest.raises(xmlschema.XMLSchemaValidationError):
        read.validate(card_xml(cards()[name]).replace("Bibliography", "Bibliographies"))


def test_every_field_that_people_fill_for_chai_is_in_the_xml() -> None:
    xml = card_xml(usual_card({field.id: f"said of {field.key}" for field in ASKED}))
    used = {each for elements in SECTIONS.values() for ids in elements.values() for each in ids}
    for field in ASKED:
        assert (f"said of {field.key}" in xml) == (field.id in used)
        assert field.id in used or not field.id.startswith("chai.")


def test_an_element_that_must_be_there_says_that_nobody_filled_it() -> None:
    empty, filled = card_xml(usual_card()), card_xml(usual_card(FILLED))
    assert "<DeveloperContact>Not filled in; to be filled in by the operator." in empty
    for optional in ("EHRCompatibility", "ThirdPartyInformation", "ClinicalTrial"):
        assert optional not in empty
        assert optional in filled


def test_values_are_numbers_with_their_interval_or_null_never_a_made_up_zero() -> None:
    root = ET.fromstring(card_xml(usual_card()))  # noqa: S314
    space = {"": NAMESPACE}
    results = {
        str(each.findtext("Label", None, space)): json.loads(
            str(each.findtext("ValueJson", None, space))
        )
        for each in root.iterfind(".//MetricResult", space)
    }
    accuracy = results["Accuracy"]
    assert accuracy["kind"] == "estimate_ci"
    assert accuracy["lower"] < accuracy["estimate"] < accuracy["upper"]
    assert (accuracy["level"], accuracy["unit"]) == (95, "%")
    unknown = [label for label, value in results.items() if value is None]
    assert f"Accuracy, sex = f, gap to all patients: {TOO_FEW}" in unknown
    without = card_xml(made_up_card(study_of("continuous"), evaluation_of(())))
    assert without.count("<ValueJson>null</ValueJson>") == 3


def test_letters_that_xml_cannot_hold_are_shown_as_such() -> None:
    xml = card_xml(usual_card({"tripod.18a": "a\uffffb <c> & d"}))
    assert ET.fromstring(xml) is not None  # noqa: S314
    assert "a\ufffdb &lt;c&gt; &amp; d" in xml
