"""Before a study is approved, a hospital's rounded size leaves it and no other number."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import Result
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import update
from typer.testing import CliRunner

from polyclinic_client.cli.data import app as commands
from polyclinic_client.consortium.participation import add_data, find_study
from polyclinic_client.folder.layout import read_identity
from polyclinic_client.folder.site_folder import SiteFolder
from polyclinic_client.study_book.book import DECLARATION, StudyBook
from polyclinic_client.study_book.roster import check_roster
from polyclinic_common.consortium.statements import ANY_RUN, MOST_DECLARED, Declaration, rounded
from polyclinic_common.data.check import check_table
from polyclinic_common.errors import Code, PolyclinicError
from polyclinic_common.evaluation.reading import Size
from polyclinic_common.identity.site_key import Identity
from polyclinic_common.identity.statement import read_signed
from polyclinic_common.packing import pack
from polyclinic_common.privacy.sum_plan import MOST_PATIENTS
from polyclinic_common.releases.shares import most_patients
from polyclinic_common.study.manifest import Study
from polyclinic_common.study.sections import SplitColumn
from polyclinic_server.consortium.publish import participants
from polyclinic_server.runs.folder import RunDescription, RunSite
from polyclinic_server.runs.process import evaluation_of
from polyclinic_server.store.tables import Part
from tests.kits.loopback import Loopback
from tests.kits.recorder import Recorder
from tests.kits.small import small_study, small_table

WORDS = ("yes", "no", "perhaps", "never")
NAME, ID = "site 0", "small-binary"


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Loopback]:
    """Return three hospitals that know each other, and a published study."""
    made = Loopback(tmp_path)
    made.join_all()
    made.verify_all()
    made.publish()
    yield made
    made.stop()


def code_of(call: Callable[[], object]) -> Code:
    with pytest.raises(PolyclinicError) as caught:
        call()
    assert caught.value.remedy
    return caught.value.code


# Two tables of one size


HOLDOUTS = st.one_of(
    st.floats(0.05, 0.95).map(lambda share: {"kind": "fraction", "fraction": share}),
    st.sampled_from(WORDS).map(lambda word: {"kind": "column", "column": "split", "test": word}),
)
PRIVATE = st.one_of(
    st.none(),
    st.fixed_dictionaries(
        {"by_site": st.booleans(), "subgroups": st.booleans(), "share": st.floats(0.05, 0.5)}
    ),
)
SUBGROUPS = st.lists(
    st.one_of(
        st.just({"column": "sex"}),
        st.floats(25, 75).map(lambda cut: {"column": "age", "cuts": [cut]}),
    ),
    max_size=2,
    unique_by=lambda subgroup: subgroup["column"],
)


@st.composite
def asked(draw: st.DrawFn) -> dict[str, Any]:
    """What an operator may write into a study to find something out."""
    positive, negative = draw(st.permutations(WORDS))[:2]
    outcome = {"positive": positive, "negative": negative, "column": "response"}
    evaluation = {"holdout": draw(HOLDOUTS), "private": draw(PRIVATE)}
    return {
        "outcome": {"kind": "binary", "source": "test"} | outcome,
        "evaluation": {key: value for key, value in evaluation.items() if value is not None},
        "subgroups": draw(SUBGROUPS),
    }


def table(study: Study, seed: int, patients: int) -> pd.DataFrame:
    """Return patients of whom nothing but their number is given: all else follows the seed."""
    random, outcome = np.random.default_rng(seed), study.model_dump()["outcome"]
    known = [outcome["positive"], outcome["negative"], None]
    frame = small_table(patients, 1, seed=seed)
    numbers = random.permutation(10 * patients)[:patients]
    frame["patient"] = [f"{seed}-{number}" for number in numbers]
    weights = random.dirichlet([1.0] * 3)
    frame["response"] = random.choice(known, patients, p=weights)
    frame.loc[0, "response"] = known[0]  # a table in which no outcome is known is not usable
    frame["split"] = random.choice(WORDS, patients, p=random.dirichlet([0.3] * len(WORDS)))
    return frame


def test_tables_of_one_size_yield_the_same_bytes_whatever_a_study_asks(
    house: Loopback, recorder: Recorder, tmp_path: Path
) -> None:
    """Whatever the hold-out, the outcome's words and the subgroups: their number alone counts."""
    made: list[Study] = []

    @settings(max_examples=25, deadline=None)
    @given(
        changes=asked(),
        seeds=st.lists(st.integers(0, 10**6), min_size=2, max_size=2, unique=True),
        patients=st.integers(1, 90),
    )
    def check(changes: dict[str, Any], seeds: list[int], patients: int) -> None:
        study = house.publish(small_study(sites=3, id=f"study-{len(made)}", **changes))
        made.append(study)
        left = [everything_sent(study, table(study, seed, patients)) for seed in seeds]
        assert left[0] == left[1]
        declarations = [
            read_signed(Declaration, part.declaration)
            for part in house.handle.store.parts(bytes.fromhex(study.hash()))
        ]
        assert [(each.declared, each.held_out) for each in declarations] == [(rounded(patients), 0)]

    def everything_sent(study: Study, frame: pd.DataFrame) -> list[bytes]:
        recorder.sent.clear()
        frame.to_csv(tmp_path / "table.csv", index=False)
        mapping = None
        if isinstance(study.evaluation.holdout, SplitColumn):  # its words were looked at
            mapping = tmp_path / "map.toml"
            mapping.write_text("[columns.split]\nsource = 'split'\nas_is = true\n")
        with house.at(NAME) as (site, client):
            signed = find_study(client, study.id)
            report, _ = add_data(site, client, signed, tmp_path / "table.csv", mapping)
        report.require_usable()
        assert any(b"polyclinic declaration" in each for each in recorder.sent)
        return list(recorder.sent)

    check()


def test_no_declaration_that_counts_held_out_patients_is_signed() -> None:
    own = Identity.generate()
    made = Declaration(
        identity=own.public, study_hash=bytes(32), run=ANY_RUN, name=NAME, declared=10, held_out=10
    )
    with pytest.raises(ValueError, match="held-out"):
        made.signed(own)
    assert read_signed(Declaration, as_earlier_versions_signed(made, own)) == made


def as_earlier_versions_signed(declaration: Declaration, identity: Identity) -> bytes:
    body = declaration.body()
    return pack([body, identity.sign(body)])


def test_a_roster_that_earlier_versions_signed_still_reads() -> None:
    study = small_study(sites=3, evaluation={"private": {}})
    keys = {name: Identity.generate() for name in study.roster.sites}
    statements = [
        as_earlier_versions_signed(declaration_of(study, name, key, held_out=20), key)
        for name, key in keys.items()
    ]
    checked = check_roster(study, statements, (NAME, keys[NAME].public), {})
    assert dict(checked.declared) == dict.fromkeys(study.roster.sites, 60)


def declaration_of(
    study: Study, name: str, key: Identity, declared: int = 60, held_out: int = 0
) -> Declaration:
    return Declaration(
        identity=key.public,
        study_hash=bytes.fromhex(study.hash()),
        run=ANY_RUN,
        name=name,
        declared=declared,
        held_out=held_out,
    )


def test_a_count_that_an_earlier_version_signed_is_not_sent_again(house: Loopback) -> None:
    """A server that holds no declaration of this hospital is not given that one."""
    for name in house.names:
        house.add(name)
    study, key = small_study(sites=3), read_identity(house.path(NAME))
    earlier = as_earlier_versions_signed(declaration_of(study, NAME, key, held_out=20), key)
    (house.path(NAME) / "studies" / study.hash() / DECLARATION).write_bytes(earlier)
    assert code_of(lambda: house.approve(NAME)) == Code.SNAPSHOT_ABSENT
    stored = [part.declaration for part in house.handle.store.parts(bytes.fromhex(study.hash()))]
    assert earlier not in stored
    house.add(NAME)
    house.approve(NAME)


# What evaluation divides by


def test_metrics_are_divided_by_a_public_share_of_the_declared_patients(
    house: Loopback, tmp_path: Path
) -> None:
    """Two hospitals of one size: whose outcomes are known makes no difference to the divisor."""
    study = small_study(sites=3, id="with-metrics", evaluation={"private": {}})
    house.publish(study)
    for index, name in enumerate(house.names):
        frame = small_table(400, 1, seed=index)
        frame["patient"] = name + frame["patient"]
        frame.loc[: 90 * index, "response"] = None
        frame.to_csv(tmp_path / "table.csv", index=False)
        with house.at(name) as (site, client):
            signed = find_study(client, study.id)
            add_data(site, client, signed, tmp_path / "table.csv", None)
    for name in house.names:
        house.approve(name, study.id)
    _, sites = participants(house.server, study.id)
    evaluation = evaluation_of(
        RunDescription(
            run="run",
            study=study.model_dump_json(),
            sites={
                each.name: RunSite(
                    node_key=each.node_key, declared=each.declared, identity=each.identity.hex()
                )
                for each in sites
            },
            largest=400,
            fewest=3,
        )
    )
    assert evaluation is not None
    by_chance = Size(100.0, 400 * 0.25 * 0.75 + 0.25**2 * 100 / 12)
    assert evaluation.sizes == dict.fromkeys(house.names, by_chance)


def test_a_run_that_an_earlier_version_described_still_reads() -> None:
    site = {"node_key": "key", "declared": 60, "held_out": 20, "identity": "00" * 32}
    described = {
        "run": "run",
        "study": small_study().model_dump_json(),
        "sites": {f"site {index}": site for index in range(3)},
        "largest": 60,
        "fewest": 3,
    }
    found = RunDescription.model_validate_json(json.dumps(described))
    assert {each.declared for each in found.sites.values()} == {60}


# What the person sees


@pytest.fixture
def extract(tmp_path: Path) -> Path:
    """Return a table of 63 patients."""
    path = tmp_path / "extract-of-63.csv"
    small_table(63, 1).to_csv(path, index=False)
    return path


def typed(house: Loopback, extract: Path, *more: str, answer: str = "") -> Result:
    words = ["add", ID, str(extract), "--site", str(house.path(NAME)), *more]
    return CliRunner().invoke(commands, words, input=answer)


def declared_by(house: Loopback) -> list[Declaration]:
    parts = house.handle.store.parts(bytes.fromhex(small_study(sites=3).hash()))
    return [read_signed(Declaration, part.declaration) for part in parts]


@pytest.mark.parametrize("answer", ["n\n", "\n", ""])
def test_every_number_is_shown_with_its_meaning_and_nothing_is_sent_without_a_yes(
    house: Loopback, extract: Path, recorder: Recorder, answer: str
) -> None:
    done = typed(house, extract, answer=answer)
    assert done.exit_code == 1
    shown = " ".join(done.stderr.split())
    for words in ("patients 60: the declared size", "held out 0: always", f"hospital {NAME}"):
        assert words in shown
    assert not any(b"polyclinic declaration" in each for each in recorder.sent)
    assert declared_by(house) == []
    with SiteFolder.open(house.path(NAME)) as site:
        assert not StudyBook.open(site).holds(bytes.fromhex(small_study(sites=3).hash()))


@pytest.mark.parametrize(("more", "answer"), [((), "y\n"), (("--yes",), ""), (("--json",), "")])
def test_what_was_shown_is_what_was_sent(
    house: Loopback, extract: Path, more: tuple[str, ...], answer: str
) -> None:
    done = typed(house, extract, *more, answer=answer)
    assert done.exit_code == 0, done.output
    (sent,) = declared_by(house)
    shown = " ".join(done.stderr.split())
    for field in Declaration.model_fields.keys() - {"identity", "run"}:
        value = getattr(sent, field)
        assert (value.hex() if isinstance(value, bytes) else str(value)) in shown, field
    if "--json" in more:
        answered = json.loads(done.stdout)
        assert (answered["declared"], "held_out" in answered) == (60, False)


@pytest.mark.parametrize("kind", ["fraction", "column"])
def test_only_the_hospital_is_told_how_many_held_out_patients_have_no_outcome(kind: str) -> None:
    holdouts = {
        "fraction": {"kind": "fraction", "fraction": 0.5},
        "column": {"kind": "column", "column": "split", "test": "yes"},
    }
    private = {"holdout": holdouts[kind], "private": {}}
    frame = small_table(80, 1).assign(split=["yes", "no"] * 40)
    frame.loc[frame.index < 20, "response"] = None
    notes = " ".join(check_table(small_study(evaluation=private), frame).notes)
    wanted = {"column": "10 of 40 held-out patients have no known outcome: they do not count"}
    assert wanted.get(kind, "released means (mean error, accuracy, ...) take the middle") in notes
    silent = check_table(small_study(evaluation={"holdout": holdouts[kind]}), frame)
    assert "held-out" not in " ".join(silent.notes)


# Sizes that no sum can hold


def test_the_largest_size_that_may_be_declared_is_the_largest_a_sum_is_planned_for() -> None:
    assert most_patients(MOST_DECLARED) == MOST_PATIENTS < most_patients(MOST_DECLARED + 1)


def test_a_size_beyond_a_sum_is_refused_where_it_is_declared(
    house: Loopback, extract: Path
) -> None:
    with house.at(NAME) as (site, client):
        signed = find_study(client, ID)

        def add(declared: int) -> object:
            return add_data(site, client, signed, extract, None, declared)

        for size in (MOST_DECLARED + 1, 10**9, 10**30):
            assert code_of(lambda size=size: add(size)) == Code.PRIVACY_PARAMETER  # type: ignore[misc]
        assert declared_by(house) == []
        add(MOST_DECLARED)
    assert [each.declared for each in declared_by(house)] == [MOST_DECLARED]


def test_the_server_takes_no_size_beyond_a_sum_and_the_others_approve(house: Loopback) -> None:
    """A hospital that declares a billion patients stops nobody but itself."""
    for name in house.names:
        house.add(name)
    study, key = small_study(sites=3), read_identity(house.path("site 2"))
    before = declared_by(house)
    with house.client("site 2") as client, pytest.raises(PolyclinicError, match="site 2") as caught:
        client.declare(declaration_of(study, "site 2", key, declared=10**9).signed(key))
    assert caught.value.code == Code.PRIVACY_PARAMETER
    assert declared_by(house) == before
    for name in house.names:
        house.approve(name)


def test_a_size_beyond_a_sum_that_a_server_passes_on_is_refused_by_its_hospitals_name(
    house: Loopback,
) -> None:
    for name in house.names:
        house.add(name)
    house.approve("site 1")
    study, key = small_study(sites=3), read_identity(house.path("site 2"))
    foreign = declaration_of(study, "site 2", key, declared=10**9).signed(key)
    with house.handle.store.engine.begin() as connection:
        changed = update(Part).where(Part.site == "site 2").values(declaration=foreign)
        connection.execute(changed)
    for call in (lambda: house.approve(NAME), lambda: participants(house.server, ID)):
        with pytest.raises(PolyclinicError, match="site 2 declares 1000000000") as caught:
            call()
        assert caught.value.code == Code.PRIVACY_PARAMETER
