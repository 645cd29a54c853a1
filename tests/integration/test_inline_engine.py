"""The ServerApp and ClientApp of a real consortium run in process, over our grid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from flwr.app import Context, Error, Message, MessageType, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid

from polyclinic_client.run.flower_app import make_client_app
from polyclinic_client.run.update_responder import Memory
from polyclinic_common.errors import RunError
from polyclinic_common.models.score_head import Vector
from polyclinic_common.wire import (
    OpenRequest,
    PrivateUpdate,
    Reason,
    Refusal,
    Release,
    Request,
    TrainRequest,
    decode_reply,
    encode_reply,
    encode_request,
)
from polyclinic_server.rounds.combiner import make_combiner
from polyclinic_server.rounds.coordinator import make_server_app
from polyclinic_server.rounds.mail import Mail
from polyclinic_server.rounds.observers import Checkpoint, Observer
from polyclinic_server.rounds.plan import RunPlan
from polyclinic_server.rounds.state import State
from polyclinic_simulations.baselines.alone import train_alone
from polyclinic_simulations.compute.trainer import Trainer
from polyclinic_simulations.engines.inline import (
    FIRST_SITE_NODE,
    SERVER_NODE,
    InlineGrid,
    run,
)
from polyclinic_simulations.federation.federation import Federation, build_federation
from polyclinic_simulations.federation.hospitals import Hospitals
from polyclinic_simulations.federation.observers import Progress, RoundHistory
from polyclinic_simulations.federation.setting import Setting
from polyclinic_simulations.federation.training import PlainSites, start_weights, train_federated
from tests.kits.noise import NoNoise
from tests.kits.small import small_study, small_table

PLAIN = Setting("none", None, "descent")
LOCAL = Setting("local", 1.0, "descent")
SECURE = Setting("secure-sum", 1.0, "descent")


def federation(kind: str = "binary", setting: Setting = PLAIN) -> Federation:
    return build_federation(setting.apply(small_study(kind)), small_table(), seed=0)


def train(made: Federation, setting: Setting = PLAIN) -> Vector:
    start = State.start(start_weights(made))
    trainer = Trainer(noise=NoNoise)
    return train_federated(made, setting, run_id="run", start=start, trainer=trainer).weights


def echo_app() -> ClientApp:
    app = ClientApp()

    @app.train()
    def reply(message: Message, context: Context) -> Message:
        return Message(message.content, reply_to=message)

    return app


def test_the_grid_keeps_flowers_contract() -> None:
    """What the coordinator relies on: numbers, replies by number, each delivered once."""
    set_identity()
    grid: Grid = InlineGrid(echo_app(), [2, 3])
    assert list(grid.get_node_ids()) == [2, 3]
    messages = [Message(RecordDict(), node, MessageType.TRAIN, group_id="1") for node in (2, 3)]
    numbers = list(grid.push_messages(messages))
    assert len(set(numbers)) == 2
    replies = list(grid.pull_messages(numbers))
    assert [reply.metadata.reply_to_message_id for reply in replies] == numbers
    assert [reply.metadata.src_node_id for reply in replies] == [2, 3]
    assert not list(grid.pull_messages(numbers))


def set_identity() -> None:
    from flwr.supercore.task_identity import TaskIdentity

    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, SERVER_NODE


@pytest.mark.parametrize("kind", ["binary", "continuous", "survival"])
def test_a_federation_without_noise_equals_one_hospital_with_all_patients(kind: str) -> None:
    made = federation(kind)
    pooled = train_alone(made, made.pooled, sum(made.declared.values()), PLAIN)
    np.testing.assert_allclose(train(made), pooled, rtol=1e-9, atol=1e-12)


def test_mode_local_without_noise_is_clipped_training_and_nothing_else() -> None:
    setting = Setting("local", 0.5, "descent")
    clipped = train(federation(setting=setting), setting)
    assert np.isfinite(clipped).all()
    assert not np.array_equal(clipped, train(federation()))


@pytest.mark.parametrize("setting", [PLAIN, LOCAL, SECURE], ids=lambda setting: setting.mode)
def test_observers_see_every_round_and_a_checkpoint_goes_on(
    setting: Setting, tmp_path: Path
) -> None:
    made = federation(setting=setting)
    whole = train(made, setting)
    checkpoint = Checkpoint(tmp_path / "state.safetensors", "run")
    seen: list[int] = []

    class Stop(Exception):  # noqa: N818
        pass

    def stop_at_four(number: int) -> None:
        seen.append(number)
        if number == 4:
            raise Stop

    def go_on(start: State, *observers: Observer) -> Vector:
        return train_federated(
            made,
            setting,
            run_id="run",
            start=start,
            observers=observers,
            trainer=Trainer(noise=NoNoise),
            folder=tmp_path / "hospitals",
        ).weights

    with pytest.raises(Stop):
        go_on(State.start(start_weights(made)), checkpoint, Progress(stop_at_four))
    resumed = checkpoint.load()
    assert resumed is not None
    assert resumed.round_number == 4
    history = RoundHistory()
    rest = go_on(resumed, history)
    assert seen == [1, 2, 3, 4]
    assert history.rounds == [5, 6]
    assert np.array_equal(rest, whole)


def test_a_foreign_or_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    made = federation()
    train_federated(
        made,
        PLAIN,
        run_id="run",
        start=State.start(start_weights(made)),
        observers=[Checkpoint(path, "run")],
    )
    with pytest.raises(RunError):
        Checkpoint(path, "another run").load()
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(RunError) as caught:
        Checkpoint(path, "run").load()
    assert caught.value.code == "R003"


def test_a_site_refuses_what_it_did_not_join(tmp_path: Path) -> None:
    made = federation(setting=LOCAL)
    weights, study_hash = start_weights(made), made.study.hash()
    hospitals = Hospitals(made, LOCAL, "run", Trainer(noise=NoNoise), tmp_path)
    hospitals.found()
    site, memory = hospitals.site(0), Memory()
    ledger = hospitals.folders()["site 0"].ledger

    def ask_with(content: RecordDict) -> Release:
        return decode_reply(site.answer(content, memory))

    def ask_site(study: str, run: str, number: int, vector: Vector) -> Release:
        return ask_with(encode_request(TrainRequest(study, run, number, "update", vector)))

    assert ask_site("00" * 32, "run", 1, weights) == Refusal(Reason.NOT_APPROVED)
    assert ask_site(study_hash, "other", 1, weights) == Refusal(Reason.NOT_APPROVED)
    assert ask_site(study_hash, "run", 7, weights) == Refusal(Reason.OVER_BUDGET)
    assert ask_with(RecordDict()) == Refusal(Reason.NOT_APPROVED)
    other_mode: Request = OpenRequest(study_hash, "run")
    assert ask_with(encode_request(other_mode)) == Refusal(Reason.OUT_OF_ORDER)
    for vector in (weights[1:], np.full_like(weights, 1e300), np.full_like(weights, -1e7)):
        assert ask_site(study_hash, "run", 1, vector) == Refusal(Reason.OUT_OF_ORDER)
    for value in (np.inf, np.nan):
        content = encode_request(TrainRequest(study_hash, "run", 1, "update", weights))
        (record,) = content.config_records.values()
        record["vector"] = np.full_like(weights, value).tobytes()
        assert ask_with(content) == Refusal(Reason.NOT_APPROVED)
    assert ledger.budget().spent == 0
    answered = ask_site(study_hash, "run", 2, weights)
    assert isinstance(answered, PrivateUpdate)
    spent = ledger.budget().spent
    assert spent > 0
    assert ask_site(study_hash, "run", 1, weights) == Refusal(Reason.OUT_OF_ORDER)
    assert ask_site(study_hash, "run", 2, weights + 0.1) == Refusal(Reason.OUT_OF_ORDER)
    again = ask_site(study_hash, "run", 2, weights)
    assert isinstance(again, PrivateUpdate)
    assert np.array_equal(again.vector, answered.vector)
    assert ledger.budget().spent == spent
    hospitals.close()


def plan(made: Federation, fewest: int = 3) -> RunPlan:
    nodes = {site.name: FIRST_SITE_NODE + index for index, site in enumerate(made.sites)}
    combiner = make_combiner(made.study, start_weights(made), 0.0, made.declared)
    rounds = made.study.training.rounds
    return RunPlan(made.study.hash(), "run", nodes, rounds, combiner, fewest, 0.05)


def run_with(made: Federation, app: ClientApp, fewest: int) -> list[State]:
    finished: list[State] = []
    start = State.start(start_weights(made))
    server = make_server_app(lambda _grid: (plan(made, fewest), start), [], finished.append)
    run(server, app, len(made.sites))
    return finished


def client_with(made: Federation, fault: str) -> ClientApp:
    """Every hospital answers, but the last one has a fault."""
    sites, last = PlainSites(made, Trainer()), FIRST_SITE_NODE + len(made.sites) - 1
    honest = make_client_app(lambda context: sites.site(context.node_id - FIRST_SITE_NODE))
    app = ClientApp()

    @app.train()
    def reply(message: Message, context: Context) -> Message:
        if context.node_id != last:
            return honest(message, context)
        if fault == "error":
            return Message(Error(1, "patient 17: division by zero"), reply_to=message)
        if fault == "rubbish":
            return Message(RecordDict(), reply_to=message)
        wrong = PrivateUpdate(made.study.hash(), "run", 99, "update", start_weights(made))
        return Message(encode_reply(wrong), reply_to=message)

    return app


@pytest.mark.parametrize("fault", ["error", "rubbish", "wrong round"])
def test_a_faulty_site_ends_a_run_that_needs_it_and_only_that(fault: str) -> None:
    made = federation()
    with pytest.raises(RunError) as caught:
        run_with(made, client_with(made, fault), fewest=3)
    assert caught.value.code == "R001"
    assert "site 2" in caught.value.what
    assert "patient" not in caught.value.what
    assert len(run_with(made, client_with(made, fault), fewest=2)) == 1


def test_a_silent_site_is_absent_after_the_timeout() -> None:
    class Mute(InlineGrid):
        def pull_messages(self, message_ids):  # type: ignore[no-untyped-def]
            return []

    set_identity()
    grid = Mute(echo_app(), [2])
    request = TrainRequest("study", "run", 1, "update", np.zeros(2))
    assert Mail(grid, {"site 0": 2}, patience_s=0.05).ask(request, ["site 0"]) == {}


def test_training_that_diverges_stops_with_a_coded_error() -> None:
    study = small_study("continuous", training={"rounds": 200, "learning_rate": 1e3})
    made = build_federation(study, small_table(), seed=0)
    with pytest.raises(RunError) as caught, np.errstate(all="ignore"):
        train(made)
    assert caught.value.code == "R002"
