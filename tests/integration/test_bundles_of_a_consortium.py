"""Bundles over real gRPC and TLS: offered, fetched, accepted, rejected, called back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from polyclinic_client.consortium import bundle_calls
from polyclinic_client.consortium import trust as learning
from polyclinic_client.consortium.bundles import Listed, accept, acceptable, fetch, listed, reject
from polyclinic_client.consortium.client import ConsortiumClient
from polyclinic_client.folder.layout import JOURNAL, read_identity
from polyclinic_client.node.rest import Rest
from polyclinic_client.node.trust_keeper import TrustKeeper
from polyclinic_client.records.journal import Decided, Journal
from polyclinic_common.bundle.bundle import Bundle, read_bundle
from polyclinic_common.bundle.opening import open_bundle
from polyclinic_common.bundle.statements import BundleRejection, BundleWithdrawal
from polyclinic_common.bundle.trust import TRUST, Trust
from polyclinic_common.bundle.verification import findings
from polyclinic_common.consortium import consortium_pb2 as pb
from polyclinic_common.consortium.transport import STREAM_S, UNARY_S
from polyclinic_common.errors import Code, PolyclinicError
from polyclinic_common.identity.site_key import Identity
from polyclinic_common.study.manifest import Study
from polyclinic_server.consortium.bundles import Released as AtTheOperator
from polyclinic_server.consortium.bundles import offer_bundle, released_bundles, withdraw_bundle
from polyclinic_server.service import bundles as service
from tests.kits.bundles import bundle_of_study, draft_of_study, facts_of_study
from tests.kits.loopback import Loopback
from tests.kits.small import small_study

OUTSIDE = "site 3"  # of the consortium, not of the study
NOT_APPROVED = "site 2"


class ReleasedRun(Loopback):
    """A consortium of four with a study of three, approved by two, of which a run has finished."""

    def __init__(self, folder: Path):
        super().__init__(folder, hospitals=4)
        self.join_all()
        self.study: Study = self.publish(small_study(sites=3))
        for name in self.names[:3]:
            self.verify_all_of(name)
            self.add(name)
        for name in self.names[:2]:
            self.approve(name)
        self.finish_run()

    def finish_run(self) -> None:
        self.run = self.handle.store.begin_run(bytes.fromhex(self.study.hash()), 6).id

    def verify_all_of(self, name: str) -> None:
        for other in self.names[:3]:
            if other != name:
                self.verify(name, other)

    def made(self, title: str = "", signer: Identity | None = None) -> Bundle:
        people = {"chai.DeveloperContact": title} if title else {}
        return bundle_of_study(self.study, signer or self.server.operator, self.run, people=people)

    def release(self, title: str = "") -> Bundle:
        bundle = self.made(title)
        offer_bundle(self.server, bundle)
        return bundle

    def fetched(self, name: str, word: str = "") -> Bundle:
        with self.client(name) as client:
            return fetch(self.path(name), client, word or self.run)

    def accept(self, name: str, bundle: Bundle) -> Path:
        file = self.folder / f"{self.path(name).name}.polyclinic"
        file.write_bytes(bundle.to_bytes())
        with self.at(name) as (site, client):
            accept(site, client, acceptable(site.path, client, bundle), file)
        return file

    def reject(self, name: str, bundle: Bundle) -> None:
        with self.at(name) as (site, client):
            reject(site, client, bundle, "calibration")

    def learn(self, name: str) -> Trust:
        with self.client(name) as client:
            return learning.learn(self.path(name), client)

    def signers(self, name: str) -> list[str]:
        names = {read_identity(self.path(each)).public.hex(): each for each in self.names}
        names[self.server.operator.public.hex()] = "operator"
        return [names[key] for key in self.fetched(name).signers]

    def decided(self, name: str) -> list[tuple[str, str, str]]:
        """Return what a hospital decided on bundles of the run, from its journal."""
        path = self.path(name)
        with Journal.open(path / JOURNAL, read_identity(path), read_only=True) as journal:
            events = [noted.event for noted in journal.events()]
        mine = [each for each in events if isinstance(each, Decided) and each.run == self.run]
        return [(each.decision, each.digest.hex(), each.code) for each in mine]

    def at_the_operator(self) -> list[AtTheOperator]:
        """Return the bundles of the run as the operator sees them."""
        return [each for each in released_bundles(self.server) if each.run == self.run]

    def at_a_hospital(self, name: str) -> list[Listed]:
        """Return the bundles of the run as a hospital sees them."""
        with self.client(name) as client:
            return [each for each in listed(self.path(name), client) if each.run == self.run]

    def reasons(self, name: str) -> list[str]:
        """Return why bundles of the run were called back, as a hospital learns it."""
        withdrawn = self.learn(name).withdrawn()
        return [each.reason for each in withdrawn if each.run == self.run]


@pytest.fixture(scope="module")
def consortium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReleasedRun]:
    made = ReleasedRun(tmp_path_factory.mktemp("released"))
    yield made
    made.stop()


@pytest.fixture
def house(consortium: ReleasedRun) -> ReleasedRun:
    """Return the consortium with another finished run, of which nothing was released."""
    consortium.finish_run()
    return consortium


def code_of(call: Callable[..., object], *arguments: object) -> Code:
    with pytest.raises(PolyclinicError) as caught:
        call(*arguments)
    assert caught.value.remedy
    return caught.value.code


def test_a_bundle_goes_from_the_operator_to_two_signatures_and_back(house: ReleasedRun) -> None:
    bundle = house.release()
    (offered,) = house.at_a_hospital("site 0")
    assert (offered.digest, offered.run, offered.approved) == (bundle.digest, house.run, True)
    assert (offered.accepted, offered.withdrawn) == ((), "")
    file = house.accept("site 0", house.fetched("site 0"))
    assert read_bundle(file).digest == bundle.digest
    assert house.signers(OUTSIDE) == ["operator", "site 0"]
    (shown,) = house.at_the_operator()
    assert (shown.accepted, shown.withdrawn) == (("site 0",), "")
    assert house.decided("site 0") == [("accepted", bundle.digest, "")]
    opened = open_bundle(file, house.path("site 0"))
    assert opened.is_approved
    assert "Not called back, as the consortium said on" in "\n".join(findings(opened))
    withdraw_bundle(house.server, house.run, "weight was read in pounds")
    open_bundle(file, house.path("site 0"))  # what it has not heard of, it does not know
    house.learn("site 0")
    house.stop()
    with pytest.raises(PolyclinicError, match="weight was read in pounds") as caught:
        open_bundle(file, house.path("site 0"))
    assert caught.value.code == Code.BUNDLE_WITHDRAWN
    house.restart()


def test_joining_says_whose_bundles_are_trusted(tmp_path: Path) -> None:
    fresh = Loopback(tmp_path, hospitals=1)
    trust = Trust.read(fresh.join("site 0"))
    assert trust.operator_key == fresh.server.operator.public
    assert (trust.approved, trust.withdrawals, trust.asked) == ((), (), None)
    fresh.stop()


def test_everybody_joined_may_fetch_and_only_who_approved_may_sign(house: ReleasedRun) -> None:
    bundle = house.release()
    for name in (NOT_APPROVED, OUTSIDE):
        assert house.fetched(name).digest == bundle.digest
        assert code_of(house.accept, name, bundle) == Code.BUNDLE_STUDY
        assert house.decided(name) == []
    assert code_of(house.reject, OUTSIDE, bundle) == Code.STUDY_NOT_OURS
    assert house.decided(OUTSIDE) == []
    assert house.signers("site 0") == ["operator"]


def test_the_server_takes_signatures_of_the_studys_hospitals_alone(house: ReleasedRun) -> None:
    bundle = house.release()
    signed = bundle.envelope.signed_bytes
    own = read_identity(house.path("site 0"))
    with house.client(OUTSIDE) as client:
        key = read_identity(house.path(OUTSIDE))
        assert code_of(client.accept_bundle, bundle.digest, key.sign(signed)) == (
            Code.REQUEST_INVALID
        )
        assert code_of(client.reject_bundle, rejection(bundle, key)) == Code.REQUEST_INVALID
    with house.client("site 0") as client:
        for wrong in (key.sign(signed), own.sign(bundle.envelope.payload), b"", bytes(64)):
            assert code_of(client.accept_bundle, bundle.digest, wrong) == Code.REQUEST_INVALID
        assert code_of(client.accept_bundle, "ab" * 32, own.sign(signed)) == Code.BUNDLE_UNKNOWN
        for wrong in (rejection(bundle, key), rejection(bundle, own, run="another")):
            assert code_of(client.reject_bundle, wrong) == Code.REQUEST_INVALID
    assert house.signers("site 0") == ["operator"]
    assert house.handle.store.decisions(bundle.digest) == []


def rejection(bundle: Bundle, signer: Identity, run: str = "") -> bytes:
    return BundleRejection(
        identity=signer.public,
        study_hash=bytes.fromhex(bundle.facts.study_hash),
        run=run or bundle.facts.run,
        digest=bytes.fromhex(bundle.digest),
        code="other",
    ).signed(signer)


def test_accepting_twice_is_accepting_once(house: ReleasedRun) -> None:
    bundle = house.release()
    first = house.accept("site 0", bundle).read_bytes()
    kept = house.handle.store.decisions(bundle.digest)[0].signature
    assert house.accept("site 0", house.fetched("site 0")).read_bytes() == first
    assert house.signers("site 0") == ["operator", "site 0"]
    assert [each.signature for each in house.handle.store.decisions(bundle.digest)] == [kept]


def test_a_rejection_is_coded_and_takes_the_signature_off_what_is_handed_out(
    house: ReleasedRun,
) -> None:
    bundle = house.release()
    house.accept("site 0", bundle)
    house.accept("site 1", bundle)
    house.reject("site 0", bundle)
    assert house.signers("site 1") == ["operator", "site 1"]
    (shown,) = house.at_the_operator()
    assert (shown.accepted, dict(shown.rejected)) == (("site 1",), {"site 0": "calibration"})
    assert [each[0] for each in house.decided("site 0")] == ["accepted", "rejected"]
    assert house.decided("site 0")[1][2] == "calibration"
    house.accept("site 0", bundle)
    assert house.signers("site 1") == ["operator", "site 0", "site 1"]


def test_a_withdrawn_bundle_is_neither_fetched_nor_signed(house: ReleasedRun) -> None:
    bundle = house.release()
    withdraw_bundle(house.server, bundle.digest[:12], "wrong unit")
    assert code_of(house.fetched, "site 0") == Code.BUNDLE_WITHDRAWN
    assert code_of(house.accept, "site 0", bundle) == Code.BUNDLE_WITHDRAWN
    assert house.decided("site 0") == []
    signature = read_identity(house.path("site 0")).sign(bundle.envelope.signed_bytes)
    with house.client("site 0") as client:
        assert code_of(client.accept_bundle, bundle.digest, signature) == Code.BUNDLE_WITHDRAWN
    assert ["wrong unit" in each.withdrawn for each in house.at_a_hospital("site 0")] == [True]
    assert code_of(offer_bundle, house.server, bundle) == Code.BUNDLE_WITHDRAWN


def test_a_withdrawn_bundle_makes_way_for_another_of_its_run(house: ReleasedRun) -> None:
    first = house.release()
    second = house.made("mended")
    assert offer_bundle(house.server, second) == [first.digest]
    assert code_of(house.fetched, "site 0") == Code.BUNDLE_UNKNOWN  # two match the run
    assert house.fetched("site 0", first.digest[:8]).digest == first.digest
    withdraw_bundle(house.server, first.digest[:8], "a line of the card was wrong")
    assert house.fetched("site 0").digest == second.digest


def test_withdrawals_are_numbered_and_the_first_reason_stays(house: ReleasedRun) -> None:
    before = len(house.learn("site 0").withdrawals)
    for title, reason in (("one", "first"), ("two", "second")):
        withdraw_bundle(house.server, house.release(title).digest, reason)
    again = withdraw_bundle(house.server, house.made("one").digest, "another reason")
    assert (again.number, again.reason) == (before + 1, "first")
    known = house.learn("site 0")
    assert [each.number for each in known.withdrawn()] == list(range(1, before + 3))
    assert house.reasons("site 0") == ["first", "second"]
    assert Trust.read(house.path("site 0")).withdrawals == house.learn("site 1").withdrawals


def test_a_long_list_of_withdrawals_comes_in_pages(
    house: ReleasedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "WITHDRAWALS_SENT", 2)
    for title in "abcde":
        withdraw_bundle(house.server, house.release(title).digest, title)
    assert house.reasons("site 0") == list("abcde")


def test_a_reason_that_cannot_be_shown_is_refused(house: ReleasedRun) -> None:
    bundle = house.release()
    for reason in ("", "two\nlines", 400 * "x"):
        assert code_of(withdraw_bundle, house.server, bundle.digest, reason) == Code.REASON_INVALID
    assert not house.handle.store.is_withdrawn(bundle.digest)
    assert code_of(withdraw_bundle, house.server, "nosuch", "reason") == Code.BUNDLE_UNKNOWN


def test_a_server_that_forgets_or_makes_up_a_withdrawal_is_not_believed(
    house: ReleasedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    withdraw_bundle(house.server, house.release().digest, "wrong unit")
    known = house.learn("site 0")
    path = house.path("site 0") / TRUST
    before = path.read_bytes()
    next_number = len(known.withdrawals) + 1
    forged = withdrawal_by(Identity.generate(), house.release("another"), next_number)
    for told, code in (
        ([], Code.WITHDRAWALS_WENT_BACK),
        (known.withdrawals[:-1], Code.WITHDRAWALS_WENT_BACK),
        ([*known.withdrawals, forged], Code.WITHDRAWAL_REFUSED),
    ):
        monkeypatch.setattr(ConsortiumClient, "withdrawals", always(told))
        assert code_of(house.learn, "site 0") == code
        assert path.read_bytes() == before


def always(answer: object) -> Callable[..., object]:
    return lambda *_: answer


def withdrawal_by(signer: Identity, bundle: Bundle, number: int) -> bytes:
    return BundleWithdrawal(
        identity=signer.public,
        study_hash=bytes.fromhex(bundle.facts.study_hash),
        run=bundle.facts.run,
        number=number,
        digest=bytes.fromhex(bundle.digest),
        reason="made up",
        day="2026-12-01",
    ).signed(signer)


def test_a_bundle_of_another_operator_is_neither_offered_nor_taken(house: ReleasedRun) -> None:
    foreign = house.made(signer=Identity.generate())
    assert code_of(offer_bundle, house.server, foreign) == Code.BUNDLE_SIGNER
    store, facts = house.handle.store, foreign.facts
    store.offer_bundle(foreign.digest, facts.study_hash, facts.run, foreign.to_bytes())
    assert code_of(house.fetched, "site 0") == Code.BUNDLE_SIGNER
    assert code_of(house.accept, "site 0", foreign) == Code.BUNDLE_SIGNER
    assert code_of(house.reject, "site 0", foreign) == Code.BUNDLE_SIGNER
    assert house.decided("site 0") == []


def test_a_bundle_whose_epsilon_does_not_follow_is_not_even_fetched(house: ReleasedRun) -> None:
    """The operator signed it, and the figure is smaller than what the mechanisms cost."""
    operator = house.server.operator
    draft = draft_of_study(house.study, operator)
    assert draft.certificate.epsilon is not None
    better = draft.certificate.model_copy(update={"epsilon": draft.certificate.epsilon / 2})
    facts = facts_of_study(house.study, operator, house.run)
    made = replace(draft, certificate=better).signed(operator, facts, {})
    offer_bundle(house.server, made)
    assert code_of(house.fetched, "site 0") == Code.BUNDLE_CERTIFICATE
    assert house.decided("site 0") == []


def test_a_simulated_bundle_is_not_accepted(house: ReleasedRun) -> None:
    made = bundle_of_study(house.study, Identity.generate(), house.run, simulated=True)
    assert code_of(house.accept, "site 0", made) == Code.BUNDLE_SIGNER


def test_a_bundle_altered_on_its_way_is_refused(
    house: ReleasedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = bytearray(house.release().to_bytes())
    content[len(content) // 2] ^= 1
    monkeypatch.setattr(ConsortiumClient, "bundle", always(bytes(content)))
    assert code_of(house.fetched, "site 0") == Code.BUNDLE_DAMAGED


def test_another_bundle_than_the_one_asked_for_is_refused(
    house: ReleasedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.release()
    other = house.made("another").to_bytes()
    monkeypatch.setattr(ConsortiumClient, "bundle", always(other))
    assert code_of(house.fetched, "site 0") == Code.BUNDLE_DAMAGED


def test_a_bundle_larger_than_a_message_comes_whole(
    house: ReleasedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "MODEL_PART", 1 << 10)  # instead of a bundle of many megabytes
    bundle = house.release()
    assert len(bundle.to_bytes()) > 4 << 10
    assert house.fetched("site 0").to_bytes() == bundle.to_bytes()


def test_a_server_that_sends_without_end_is_not_listened_to_for_ever(
    house: ReleasedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle_calls, "LARGEST", 4 << 10)
    monkeypatch.setattr(service, "MODEL_PART", 1 << 10)
    digest = house.release().digest
    with house.client("site 0") as client:
        assert len(client.bundle(digest)) == 5 << 10
    assert code_of(house.fetched, "site 0") == Code.BUNDLE_DAMAGED


def test_a_bundle_that_is_not_on_offer_is_not_signed(house: ReleasedRun) -> None:
    assert code_of(house.accept, "site 0", house.made()) == Code.BUNDLE_UNKNOWN
    assert code_of(house.reject, "site 0", house.made()) == Code.BUNDLE_UNKNOWN
    assert house.decided("site 0") == []
    assert code_of(house.fetched, "site 0") == Code.BUNDLE_UNKNOWN


def test_a_fetch_needs_a_deadline_of_minutes(house: ReleasedRun) -> None:
    digest = bytes.fromhex(house.release().digest)
    with house.client("site 0") as client, pytest.raises(grpc.RpcError) as caught:
        list(client._stub.FetchBundle(pb.BundleRequest(digest=digest), timeout=STREAM_S))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_an_earlier_server_is_named_as_what_to_upgrade(house: ReleasedRun) -> None:
    """A server that does not know a call answers as gRPC does."""
    with house.client("site 0") as client:
        unknown = client._channel.unary_unary(
            "/polyclinic.consortium.v1.Consortium/NoSuchCall",
            request_serializer=pb.BundlesRequest.SerializeToString,
            response_deserializer=pb.BundleList.FromString,
        )
        with pytest.raises(PolyclinicError, match="earlier version") as caught, client._coded():
            unknown(pb.BundlesRequest(), timeout=UNARY_S)
    assert caught.value.code == Code.SERVER_OLDER
    assert "upgrade" in caught.value.remedy


def test_what_is_known_of_another_consortium_is_forgotten(house: ReleasedRun) -> None:
    Trust(consortium="Another", operator_key=Identity.generate().public).write(house.path("site 1"))
    known = house.learn("site 1")
    assert known.operator_key == house.server.operator.public
    assert known.withdrawals == house.learn("site 0").withdrawals


def test_a_node_learns_by_a_process_of_its_own(house: ReleasedRun) -> None:
    bundle = house.release()
    withdraw_bundle(house.server, bundle.digest, "wrong unit")
    keeper = TrustKeeper(house.path("site 1"), Rest(lambda: 0.0), lambda: 0.0)
    keeper.look()  # the node has just answered
    assert Trust.read(house.path("site 1")).withdrawal(bundle.digest) is None
    TrustKeeper(house.path("site 1"), rested(), lambda: 0.0).look()
    assert Trust.read(house.path("site 1")).withdrawal(bundle.digest) is not None


def rested() -> Rest:
    """Return that of a node that has answered nothing for eleven seconds."""
    seconds = iter([0.0, 11.0])
    return Rest(lambda: next(seconds))


def test_a_node_asks_every_ten_minutes(house: ReleasedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []
    now = [1000.0]
    monkeypatch.setattr(TrustKeeper, "_ask", lambda _: asked.append(now[0]))
    keeper = TrustKeeper(house.path("site 1"), Rest(lambda: now[0]), lambda: now[0])
    while now[0] < 2500.0:
        now[0] += 10.0
        keeper.look()
    assert asked == [1010.0, 1610.0, 2210.0]


def test_a_revoked_hospital_neither_sees_nor_signs(house: ReleasedRun) -> None:
    bundle = house.release()
    house.handle.store.revoke("site 0")
    signature = read_identity(house.path("site 0")).sign(bundle.envelope.signed_bytes)
    with house.client("site 0") as client:
        for call in (client.bundles, client.withdrawals, lambda: client.bundle(bundle.digest)):
            assert code_of(call) == Code.CERTIFICATE_REFUSED
        assert code_of(client.accept_bundle, bundle.digest, signature) == (Code.CERTIFICATE_REFUSED)
