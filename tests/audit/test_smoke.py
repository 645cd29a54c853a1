"""`make audit` in small: a defect is caught and named, and the product without one is clean."""

from __future__ import annotations

from tests.audit.__main__ import Caught, first_failure
from tests.audit.mutations import MUTATIONS
from tests.audit.plugin import NONE

ASKED_FOR = 30


def test_a_defect_is_caught_by_a_named_test() -> None:
    found = first_failure("fallback not charged", ["test_ledger.py"])
    assert found is not None
    assert found.startswith("tests/privacy/test_ledger.py::test_unsettled_releases_count")


def test_without_a_defect_nothing_fails() -> None:
    assert first_failure(NONE, ["test_streams.py"]) is None


def test_every_defect_has_a_name_and_must_be_caught() -> None:
    assert len(MUTATIONS) == ASKED_FOR
    assert not Caught("no clip", None, None, 1.0).as_it_should
    assert Caught("no clip", None, "test", 1.0).as_it_should
    assert Caught(NONE, None, None, 1.0).as_it_should
    assert not Caught(NONE, "test", None, 1.0).as_it_should
