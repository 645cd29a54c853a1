"""The fields of a model card: TRIPOD+AI, and what the applied model card of CHAI asks besides.

TRIPOD+AI: Collins et al., BMJ 385 (2024) e078378, table 2: 27 items, 52 with their parts. A field
``tripod.12c`` is its item 12c; ``tripod.6a.setting`` is the part of item 6a that people know.
``chai.`` names an element of the Coalition for Health AI's applied model card, v0.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Who = Literal["operator", "hospitals", "clinical lead", "statistician"]


@dataclass(frozen=True)
class Field:
    """A field of the card.

    Attributes
    ----------
    id, title : str
        Its id, and what it is called.
    who : str or None
        Who fills it; None where the system does.
    key : str
        Its name in `card.toml`.
    asks : str
        What is asked, for whoever fills it.
    """

    id: str
    title: str
    who: Who | None = None
    key: str = ""
    asks: str = ""


FIELDS: dict[str, tuple[Field, ...]] = {
    "What it is": (
        Field("tripod.1", "Title"),
        Field("tripod.2", "Summary"),
        Field("chai.ModelDeveloper", "Developer", "operator", "developer",
              "Who made the model and answers for it?"),
        Field("chai.DeveloperContact", "Contact", "operator", "contact",
              "Where are questions and faults reported?"),
        Field("chai.ReleaseStage", "Stage of release", "operator", "release_stage",
              "What is it released for now: research, a pilot, use in care?"),
        Field("chai.ReleaseDate", "Released on"),
        Field("chai.ReleaseVersion", "Version"),
        Field("chai.GlobalAvailability", "Where it is available", "operator", "availability",
              "In which countries or hospitals may it be used?"),
        Field("chai.EHRCompatibility", "Health record systems", "operator", "record_systems",
              "With which health record systems was it tried? One a line, or: none."),
        Field("chai.RegulatoryApproval", "Regulatory status"),
        Field("chai.Keywords", "Keywords"),
    ),
    "Intended use and its limits": (
        Field("use.intended", "What it predicts, for whom"),
        Field("chai.IntendedUseAndWorkflow", "Place in care", "clinical lead", "workflow",
              "Where in care is the prediction looked at, by whom, and what follows from it?"),
        Field("chai.PrimaryIntendedUsers", "Intended users", "clinical lead", "users",
              "Who is meant to use it?"),
        Field("tripod.27b", "What users need to know", "clinical lead", "expertise",
              "What must a user know or be able to do, and what must be entered by hand?"),
        Field("tripod.3b", "Target population", "clinical lead", "population",
              "For which patients is it meant?"),
        Field("chai.HowToUse", "How to ask it"),
        Field("tripod.27a", "Missing and odd values"),
        Field("use.limits", "Where it does not apply"),
        Field("chai.CautionedOutOfScopeSettings", "What it must not be used for", "clinical lead",
              "out_of_scope", "For which patients, settings or decisions must it not be used?"),
        Field("chai.ClinicalRiskLevel", "Clinical risk", "clinical lead", "risk_level",
              "How bad is it for a patient if the prediction is wrong, and why?"),
        Field("chai.PatientConsentOrDisclosure", "What patients are told", "hospitals",
              "patient_information", "Are patients told or asked before it is used?"),
    ),
    "Background": (
        Field("tripod.3a", "Why it was made", "clinical lead", "background",
              "What is the medical question, and which models for it are there already?"),
        Field("tripod.3c", "Known inequalities", "clinical lead", "inequalities",
              "Which groups are known to be treated or to fare differently?"),
        Field("tripod.4", "Objectives"),
    ),
    "Data": (
        Field("tripod.5a", "Origin of the data", "hospitals", "data_sources",
              "Records, a registry, a trial? How well do they stand for the patients meant?"),
        Field("tripod.5b", "Dates", "hospitals", "dates",
              "From when to when were patients taken in and followed?"),
        Field("tripod.6a", "Hospitals"),
        Field("tripod.6a.setting", "Setting", "hospitals", "setting",
              "Primary, secondary or tertiary care? In which places?"),
        Field("tripod.6b", "Who was included", "hospitals", "eligibility",
              "Which patients were taken into the tables, and which left out?"),
        Field("tripod.6c", "Treatment"),
        Field("tripod.7", "Preparation of the data"),
        Field("tripod.7.quality", "Checks of quality", "hospitals", "data_quality",
              "How was it checked that the columns hold what they should, in every group?"),
        Field("tripod.8a", "Outcome"),
        Field("tripod.8a.assessed", "How the outcome was assessed", "hospitals",
              "outcome_assessed", "How and when was it assessed, and alike in every group?"),
        Field("tripod.8b", "Who assessed the outcome", "hospitals", "outcome_assessors",
              "If it takes judgement: who judged, with which qualification?"),
        Field("tripod.8c", "Blinding of the outcome", "hospitals", "outcome_blinding",
              "Did those who assessed it know the predictors?"),
        Field("tripod.9a", "Choice of predictors", "statistician", "predictor_choice",
              "Why these columns, and were others tried before?"),
        Field("tripod.9b", "Predictors"),
        Field("tripod.9b.measured", "How predictors were measured", "hospitals",
              "predictors_measured",
              "How and when was each measured: before the outcome was known?"),
        Field("tripod.9c", "Who assessed the predictors", "hospitals", "predictor_assessors",
              "If any takes judgement: who judged, with which qualification?"),
        Field("tripod.10", "Sample size", "statistician", "sample_size",
              "How was it decided that these patients are enough?"),
        Field("tripod.11", "Missing data"),
    ),
    "Methods": (
        Field("tripod.12a", "Training and held-out patients"),
        Field("tripod.12b", "Form of the predictors"),
        Field("tripod.12c", "Model and training"),
        Field("tripod.12d", "Differences between hospitals"),
        Field("tripod.12e", "Measures of performance"),
        Field("tripod.12f", "Updating"),
        Field("tripod.12g", "How a prediction is made"),
        Field("tripod.13", "Rare outcomes"),
        Field("tripod.14", "Fairness"),
        Field("tripod.15", "Output"),
        Field("tripod.16", "Training against evaluation"),
        Field("chai.Goals.usefulness", "Goal of the measures of use", "statistician",
              "usefulness_goal", "Which figure would make it useful, set before it was known?"),
        Field("chai.Goals.fairness", "Goal of the measures of fairness", "statistician",
              "fairness_goal", "Which gap between groups would be too large?"),
        Field("chai.Goals.safety", "Goal of the measures of safety", "statistician",
              "safety_goal", "How far off may predictions be before that does harm?"),
        Field("chai.Validation", "Why this way of testing", "statistician", "validation",
              "Why does this evaluation tell how it will do where it is used?"),
        Field("tripod.17", "Ethics", "hospitals", "ethics",
              "Which committees approved, and did patients consent or was that waived?"),
    ),
    "Privacy": (
        Field("privacy.promise", "What every patient is promised"),
        Field("privacy.not_promised", "What is not promised"),
    ),
    "Openness": (
        Field("tripod.18a", "Funding", "operator", "funding",
              "Who paid, and had they a say?"),
        Field("tripod.18b", "Conflicts of interest", "operator", "conflicts",
              "Which interests do the makers have?"),
        Field("tripod.18c", "Protocol", "operator", "protocol",
              "Where can the protocol be read? Or: there is none."),
        Field("tripod.18d", "Registration", "operator", "registration",
              "Where is it registered, under which number? Or: not registered."),
        Field("tripod.18e", "Sharing of data"),
        Field("tripod.18f", "Sharing of code"),
        Field("tripod.19", "Patients and public", "clinical lead", "involvement",
              "How were patients and the public involved? Or: they were not."),
        Field("chai.StakeholdersConsulted", "Who was consulted", "clinical lead", "consulted",
              "Which clinicians, patients or others were asked about the design?"),
        Field("chai.ThirdPartyInformation", "Third parties", "operator", "third_parties",
              "Which parts come from others? Or: none."),
        Field("maintenance.tools", "Watching and calling back"),
        Field("chai.OngoingMaintenance", "Maintenance", "operator", "maintenance",
              "Who watches it, how often, and who decides that it is withdrawn?"),
    ),
    "Results": (
        Field("tripod.20a", "Flow of patients", "hospitals", "patient_flow",
              "How many patients were looked at, left out and why, and had the outcome?"),
        Field("tripod.20b", "Characteristics of patients", "hospitals", "characteristics",
              "What are age, sex, treatment and other features of these patients?"),
        Field("tripod.20c", "Comparison with the target population", "statistician",
              "population_compared", "How do the patients differ from those it is meant for?"),
        Field("tripod.21", "Numbers of patients"),
        Field("tripod.22", "The model itself"),
        Field("tripod.23a", "Performance"),
        Field("results.calibration", "Calibration"),
        Field("tripod.23b", "Performance by hospital"),
        Field("results.votes", "Votes of the hospitals"),
        Field("tripod.24", "Results of updating"),
    ),
    "Discussion": (
        Field("tripod.25", "Interpretation", "clinical lead", "interpretation",
              "What do the results mean, beside earlier models and for fairness?"),
        Field("tripod.26", "Limitations that the system knows"),
        Field("tripod.26.people", "Further limitations", "statistician", "limitations",
              "What else may be wrong: who is missing, what was measured badly?"),
        Field("chai.KnownBiasesOrEthicalConsiderations", "Ethical considerations",
              "clinical lead", "ethical_considerations",
              "Whom could its use put at a disadvantage, and what is done about it?"),
        Field("tripod.27c", "Next steps", "clinical lead", "next_steps",
              "What has to be studied before, or while, it is used?"),
        Field("chai.PeerReviewedPublications", "Publications", "clinical lead", "publications",
              "Which publications are there, and were they reviewed? Or: none."),
        Field("chai.ClinicalTrial", "Clinical trial", "clinical lead", "clinical_trial",
              "Was or is it tried in a trial? Or: no."),
        Field("chai.ReimbursementStatus", "Reimbursement", "operator", "reimbursement",
              "Is its use paid for? Or: no."),
    ),
}  # fmt: skip
"""All fields by section, in the order of the card."""

ASKED: tuple[Field, ...] = tuple(
    field for fields in FIELDS.values() for field in fields if field.who is not None
)
"""Those that people fill."""
PEOPLE: tuple[Who, ...] = ("operator", "hospitals", "clinical lead", "statistician")


def section_of(who: Who) -> str:
    """Return the section of `card.toml` that somebody fills."""
    return who.replace(" ", "_")
