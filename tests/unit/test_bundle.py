"""A released model is one file, and nothing in it can be changed unseen."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyclinic_common.bundle.archive import pack_members, unpack_members
from polyclinic_common.bundle.bundle import ENVELOPE, MEMBERS, Bundle, bundle_of, read_bundle
from polyclinic_common.bundle.certificate import Certificate
from polyclinic_common.bundle.contents import Evaluation
from polyclinic_common.bundle.envelope import Envelope
from polyclinic_common.bundle.noise_audit import read_noise_audit
from polyclinic_common.bundle.opening import open_bundle
from polyclinic_common.bundle.verification import findings
from polyclinic_common.bundle.weights import SavedWeights
from polyclinic_common.consortium.signed import SignedStudy
from polyclinic_common.errors import BundleError, Code, ModelError
from polyclinic_common.evaluation.reading import GroupReading, RoundReadings
from polyclinic_common.identity.site_key import Identity, fingerprint
from tests.kits.bundles import bundle_of_study, draft_of_study, facts_of_study
from tests.kits.small import small_study

SCRIPT = Path(__file__).parents[2] / "docs" / "verify.py"
OPERATOR = Identity.from_private(bytes(range(32)))
HOSPITAL = Identity.from_private(bytes(range(1, 33)))
STUDY = small_study("binary")
NAME = "a.polyclinic"


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return bundle_of_study(STUDY, OPERATOR).signed(HOSPITAL)


def refused(content: bytes) -> Code:
    with pytest.raises(BundleError) as caught:
        bundle_of(content, NAME)
    return caught.value.code


def written(folder: Path, content: bytes) -> Path:
    file = folder / NAME
    file.write_bytes(content)
    return file


def test_the_same_model_is_the_same_file(bundle: Bundle) -> None:
    again = bundle_of_study(STUDY, OPERATOR).signed(HOSPITAL)
    assert again.to_bytes() == bundle.to_bytes()
    read = bundle_of(bundle.to_bytes(), NAME)
    assert read.to_bytes() == bundle.to_bytes()
    assert (read.digest, read.card) == (bundle.digest, bundle.card)
    assert read.study.hash() == STUDY.hash()
    np.testing.assert_array_equal(read.model.weights, bundle.model.weights)


@pytest.mark.parametrize("member", [ENVELOPE, *MEMBERS])
def test_a_flipped_byte_of_any_member_is_refused(bundle: Bundle, member: str) -> None:
    content = bundle.to_bytes()
    inside = unpack_members(content, NAME)[member]
    start = content.index(inside)
    for place in {
        *range(start, start + len(inside), max(1, len(inside) // 40)),
        start + len(inside) - 1,
    }:
        refused(_flipped(content, place))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_flipped_bit_anywhere_in_the_file_is_refused(data: st.DataObject) -> None:
    content = bundle_of_study(STUDY, OPERATOR).to_bytes()
    place = data.draw(st.integers(0, len(content) - 1))
    refused(_flipped(content, place, 1 << data.draw(st.integers(0, 7))))


def test_bytes_behind_before_or_missing_are_refused(bundle: Bundle) -> None:
    content = bundle.to_bytes()
    for other in (content + b"\0", b"\0" + content, content[:-1], b"", b"PK", content[:100]):
        assert refused(other) == Code.BUNDLE_DAMAGED


def test_a_member_more_or_less_or_elsewhere_is_refused(bundle: Bundle) -> None:
    members = unpack_members(bundle.to_bytes(), NAME)
    more = pack_members(members | {"more.txt": b"x"})
    less = pack_members({name: each for name, each in members.items() if name != "history.json"})
    turned = pack_members(dict(reversed(members.items())))
    assert {refused(more), refused(less), refused(turned)} == {Code.BUNDLE_DAMAGED}


def _flipped(content: bytes, place: int, bit: int = 1) -> bytes:
    return content[:place] + bytes([content[place] ^ bit]) + content[place + 1 :]


def test_what_nobody_or_another_signed_is_refused(bundle: Bundle) -> None:
    bare = Envelope(bundle.envelope.payload, {})
    for envelope in (bare, bare.signed(HOSPITAL), bare.signed(HOSPITAL).signed(OPERATOR)):
        assert refused(replace(bundle, envelope=envelope).to_bytes()) == Code.BUNDLE_UNSIGNED


def test_a_wrong_signature_of_a_hospital_is_refused(bundle: Bundle) -> None:
    wrong = bundle.envelope.with_signature(HOSPITAL.public.hex(), bytes(64))
    assert refused(replace(bundle, envelope=wrong).to_bytes()) == Code.BUNDLE_UNSIGNED


def test_a_hospital_signs_the_same_bundle(bundle: Bundle) -> None:
    alone = bundle_of_study(STUDY, OPERATOR)
    assert alone.digest == bundle.digest
    assert bundle.signers == (OPERATOR.public.hex(), HOSPITAL.public.hex())


def test_a_study_that_another_operator_signed_is_refused() -> None:
    draft = replace(draft_of_study(STUDY, OPERATOR), signed_study=SignedStudy.sign(STUDY, HOSPITAL))
    made = draft.signed(OPERATOR, facts_of_study(STUDY, OPERATOR, "1f0c"), {})
    assert refused(made.to_bytes()) == Code.BUNDLE_UNSIGNED


def signed_with(certificate: Certificate) -> bytes:
    draft = replace(draft_of_study(STUDY, OPERATOR), certificate=certificate)
    return draft.signed(OPERATOR, facts_of_study(STUDY, OPERATOR, "1f0c"), {}).to_bytes()


def lying(how: str) -> Certificate:
    """Return a certificate that an operator may sign, and nobody may believe."""
    true = draft_of_study(STUDY, OPERATOR).certificate
    assert true.epsilon is not None
    nothing: dict[str, object] = {"mechanisms": (), "accountant": "none"}
    once = tuple(each.model_copy(update={"times": 1}) for each in true.mechanisms)
    few = Certificate.of(
        small_study("binary", training={"rounds": 2}), dict.fromkeys(STUDY.training_sites, 60)
    )
    changes: dict[str, dict[str, object]] = {
        "smaller epsilon": {"epsilon": true.epsilon * 0.999},
        "no mechanisms": nothing,
        "no privacy": nothing
        | {"mode": "none", "epsilon": None, "fallback_epsilon": None}
        | {"delta": None},
        "fewer releases": {"mechanisms": once},
        "a shorter run": dict(few),
    }
    return true.model_copy(update=changes[how])


LIES = ("smaller epsilon", "no mechanisms", "no privacy", "fewer releases", "a shorter run")


@pytest.mark.parametrize("how", LIES)
def test_a_certificate_that_does_not_follow_is_refused_though_the_operator_signed_it(
    how: str, tmp_path: Path
) -> None:
    content = signed_with(lying(how))
    assert refused(content) == Code.BUNDLE_CERTIFICATE
    if how != "a shorter run":  # whose figures follow, from another study's mechanisms
        assert _script(written(tmp_path, content)).returncode != 0


def test_hostile_files_are_refused_and_end_in_no_traceback(bundle: Bundle) -> None:
    members = unpack_members(bundle.to_bytes(), NAME)
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    squeezed = bytearray(target.getvalue())
    squeezed[60:70] = bytes(10)
    deep = b"[" * 200_000
    envelope = json.dumps(
        {
            "payload": base64.b64encode(deep).decode(),
            "payloadType": "application/vnd.in-toto+json",
            "signatures": [],
        }
    ).encode()
    for hostile in (
        bytes(squeezed),
        pack_members(members | {ENVELOPE: deep}),
        pack_members(members | {ENVELOPE: envelope}),
    ):
        assert refused(hostile) == Code.BUNDLE_DAMAGED


@pytest.mark.parametrize("what", ["no numpy type", "no precision", "slope nought"])
def test_weights_that_no_run_writes_are_refused(what: str) -> None:
    model = SavedWeights(np.ones(6), np.array([0.0, 1.0]), np.eye(2))
    content = model.to_bytes()
    if what == "no numpy type":
        content = content.replace(b'"F64"', b'"BF1"', 1)
    elif what == "no precision":
        content = replace(model, precision=np.ones((2, 2))).to_bytes()
    else:
        content = replace(model, level_and_slope=np.zeros(2)).to_bytes()
    with pytest.raises(ModelError):
        SavedWeights.read(content, STUDY)


def test_control_characters_of_a_bundle_reach_no_terminal(tmp_path: Path) -> None:
    loud = draft_of_study(STUDY, OPERATOR).certificate
    loud = loud.model_copy(update={"headline_assumes": "\x1b]0;evil\x07"})
    opened = open_bundle(
        written(tmp_path, signed_with(loud)), tmp_path / "none", fingerprint(OPERATOR.public)
    )
    assert "\x1b" not in "".join(findings(opened))


def test_keys_that_anybody_may_append_are_no_hospitals(bundle: Bundle, tmp_path: Path) -> None:
    file = written(tmp_path, bundle.signed(Identity.generate()).to_bytes())
    said = findings(open_bundle(file, tmp_path / "none", fingerprint(OPERATOR.public)))
    assert any("2 more, of keys that nobody here knows" in each for each in said)


@pytest.mark.parametrize("mode", ["secure-sum", "local", "none"])
def test_the_certificate_follows_in_every_mode(mode: str) -> None:
    study = small_study("binary", privacy={"mode": mode})
    certificate = Certificate.of(study, dict.fromkeys(study.training_sites, 60))
    certificate.check(study)
    if mode != "none":
        assert certificate.epsilon is not None
        assert certificate.epsilon <= study.privacy.epsilon


def test_an_unknown_signer_is_refused_until_its_fingerprint_is_told(
    bundle: Bundle, tmp_path: Path
) -> None:
    file = written(tmp_path, bundle.to_bytes())
    for told in (None, fingerprint(HOSPITAL.public)):
        with pytest.raises(BundleError) as caught:
            open_bundle(file, tmp_path / "none", told)
        assert caught.value.code == Code.BUNDLE_SIGNER
    opened = open_bundle(file, tmp_path / "none", fingerprint(OPERATOR.public))
    assert opened.bundle.digest == read_bundle(file).digest


def test_a_simulated_bundle_is_marked_everywhere(tmp_path: Path) -> None:
    made = bundle_of_study(STUDY, OPERATOR, simulated=True)
    opened = open_bundle(written(tmp_path, made.to_bytes()), tmp_path / "none")
    assert any("SIMULATED" in note for note in opened.notes)
    assert made.card.simulated


def test_a_program_of_its_own_agrees(bundle: Bundle, tmp_path: Path) -> None:
    file = written(tmp_path, bundle.to_bytes())
    assert _script(file).returncode == 0
    assert _script(file, OPERATOR.public.hex()).returncode == 0
    assert _script(file, HOSPITAL.public.hex()).returncode != 0
    content = bundle.to_bytes()
    place = content.index(unpack_members(content, NAME)["weights.safetensors"]) + 200
    assert _script(written(tmp_path, _flipped(content, place))).returncode != 0


def _script(file: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), str(file), *more]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def audit_file(folder: Path, **changes: object) -> Path:
    finding = {"kind": "update", "reader": "headline", "claimed": 1.0, "at_least": 0.8, "copies": 3}
    privacy = STUDY.privacy
    audit = {"study": STUDY.id, "mode": privacy.mode, "epsilon": privacy.epsilon, "rounds": 6}
    audit |= {"delta": privacy.delta, "gradients": "opacus", "findings": [finding]}
    audit |= {"refuted": False} | changes
    file = folder / "audit.json"
    file.write_text(json.dumps([audit]), encoding="utf-8")
    return file


def test_an_audit_of_the_noise_stands_in_certificate_and_card(tmp_path: Path) -> None:
    audit = read_noise_audit(audit_file(tmp_path), STUDY)
    sizes = dict.fromkeys(STUDY.training_sites, 60)
    draft = replace(
        draft_of_study(STUDY, OPERATOR), certificate=Certificate.of(STUDY, sizes, audit)
    )
    made = draft.signed(OPERATOR, facts_of_study(STUDY, OPERATOR, "1f0c"), {})
    read = bundle_of(made.to_bytes(), NAME)
    assert read.certificate.audit == audit
    assert "at least 0.8" in read.card.model_dump_json()


@pytest.mark.parametrize(
    "changes", [{"study": "another"}, {"epsilon": 9.0}, {"refuted": True}, {"findings": []}]
)
def test_an_audit_of_something_else_or_that_refutes_is_not_attached(
    changes: dict[str, object], tmp_path: Path
) -> None:
    with pytest.raises(BundleError) as caught:
        read_noise_audit(audit_file(tmp_path, **changes), STUDY)
    assert caught.value.code == Code.AUDIT_UNUSABLE


@pytest.mark.parametrize(("released", "final"), [(2, 0), (3, 2)], ids=["menu", "menu, calibrated"])
def test_quality_is_that_of_the_model_that_was_kept(released: int, final: int) -> None:
    """Of two settings the first was kept; a third release is about it once it was calibrated."""
    readings = tuple(
        RoundReadings(
            6 * (k + 1), (GroupReading("overall", "", 100.0 + k, 1.0, suppressed=True, metrics={}),)
        )
        for k in range(released)
    )
    known = Evaluation(metrics=readings, settings=2, chosen=1)
    assert known.groups == readings[final].groups
