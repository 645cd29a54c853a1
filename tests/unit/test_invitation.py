"""An invitation is whole or it is refused."""

from __future__ import annotations

import base64

import pytest

from polyclinic_common import pki
from polyclinic_common.consortium.invitation import PREFIX, Invitation, hash_secret, read_invitation
from polyclinic_common.errors import Code, ConsortiumError

AUTHORITY = pki.Authority.create("Example consortium").certificate
INVITATION = Invitation.create("polyclinic.example.org", 7640, "St. Mary", 1_900_000_000, AUTHORITY)


def test_what_was_written_is_read_however_mail_broke_it() -> None:
    text = INVITATION.text()
    assert read_invitation(text) == INVITATION
    broken = "\n".join(text[start : start + 60] for start in range(0, len(text), 60))
    assert read_invitation(f"  {broken}\n") == INVITATION
    assert INVITATION.fingerprint == pki.fingerprint(AUTHORITY)
    assert (INVITATION.until.year, len(text) < 900) == (2030, True)


@pytest.mark.parametrize("at", [0, 11, 30, 100, 400, -1])
def test_one_altered_letter_is_noticed(at: int) -> None:
    text = INVITATION.text()
    position = at % len(text)
    letter = "A" if text[position] != "A" else "B"
    altered = text[:position] + letter + text[position + 1 :]
    if at == -1:  # the last letter carries bits that are no content
        altered = text[:-4]
    with pytest.raises(ConsortiumError) as caught:
        read_invitation(altered)
    assert caught.value.code == Code.INVITATION_UNREADABLE


@pytest.mark.parametrize("body", ["", "AAAA", "not base 64!", "ä"])
def test_what_is_none_is_refused(body: str) -> None:
    for text in (body, PREFIX + body):
        with pytest.raises(ConsortiumError) as caught:
            read_invitation(text)
        assert caught.value.code == Code.INVITATION_UNREADABLE


def test_the_line_holds_the_secret_and_the_server_its_hash() -> None:
    body = INVITATION.text().removeprefix(PREFIX)
    content = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))
    assert INVITATION.secret in content
    assert INVITATION.secret_hash == hash_secret(INVITATION.secret)
    other = Invitation.create("polyclinic.example.org", 7640, "St. Mary", 1, AUTHORITY)
    assert other.secret != INVITATION.secret
    assert other.id != INVITATION.id
