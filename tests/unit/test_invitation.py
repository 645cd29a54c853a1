"""An invitation is whole or it is refused."""

from __future__ import annotations

import base64

import pytest

from polyclinic_common.consortium.invitation import PREFIX, Invitation, hash_secret, read_invitation
from polyclinic_common.errors import Code, ConsortiumError
from polyclinic_common.identity import certificates

AUTHORITY = certificates.Authority.create("Example consortium").certificate
INVITATION = Invitation.create("polyclinic.example.org", 7640, "St. Mary", 1_900_000_000, AUTHORITY)


def test_what_was_written_is_read_however_mail_broke_it() -> None:
    text = INVITATION.text()
    assert read_invitation(text) == INVITATION
    broken = "\n".join(text[start : start + 60] for start in range(0, len(text), 60))
    assert read_invitation(f"  {broken}\n") == INVITATION
    assert INVITATION.fingerprint == certificates.fingerprint(AUTHORITY)
    assert (INVITATION.until.year, len(text) < 900) == (2030, True)


def _lines(letters: int, before: str = "", after: str = "\n") -> str:
    text = INVITATION.text()
    cut = (text[start : start + letters] for start in range(0, len(text), letters))
    return "".join(f"{before}{line}{after}" for line in cut)


MANGLED = {
    "bom": "\ufeff" + INVITATION.text(),
    "quoted by the one who answers": _lines(72, "> "),
    "quoted twice, wrapped by CRLF": _lines(72, "> > ", "\r\n"),
    "quoted-printable": _lines(72, after="=\r\n"),
    "quoted-printable, hyphens written out": INVITATION.text().replace("-", "=2D"),
    "quotation marks": f'"{INVITATION.text()}"',
    "curled quotation marks": f"\u201e{INVITATION.text()}\u201c",
    "angle brackets": f"<{INVITATION.text()}>",
    "blanks that do not break": _lines(60, "\u00a0\u00a0", "\u00a0\n"),
    "letters of no width": _lines(10, "\u200b", "\u2060\u00ad"),
    "greeting around it": f"Dear all,\n\nour invitation:\n{_lines(64)}\nBest regards\nOperator",
    "greeting on its line": f"Invitation: {INVITATION.text()} Best regards, Operator",
    "full stop behind it": f"{INVITATION.text()}.",
    "emphasis": f"*{INVITATION.text()}* or _{INVITATION.text()}_",
    "hypertext": f"<p>{_lines(40, after='<br/>')}</p><div class='x'>Regards</div>",
    "hypertext with entities": _lines(40, "&nbsp;", "<wbr>"),
    "capital at the beginning": "P" + INVITATION.text()[1:],
    "other words that begin so": f"see polyclinic-help, then {INVITATION.text()}",
    "hyphens that do not break": INVITATION.text().replace("polyclinic-", "polyclinic\u2011"),
    "signature below": f"{_lines(76)}-- \nOperator",
}


@pytest.mark.parametrize("text", MANGLED.values(), ids=MANGLED)
def test_it_is_found_in_whatever_mail_programs_and_editors_make_of_it(text: str) -> None:
    assert read_invitation(text) == INVITATION


def test_cut_off_and_not_there_are_told_apart() -> None:
    for text, words in (
        (INVITATION.text()[:-30] + "\nBest regards", "cut off or altered"),
        ("Dear colleagues, it follows tomorrow.", "There is no invitation"),
    ):
        with pytest.raises(ConsortiumError, match=words):
            read_invitation(text)


def test_a_long_text_is_read_in_bounded_time() -> None:
    """Every beginning is followed for so many letters only."""
    words = " ".join(["polyclinic-x"] * 500 + ["word"] * 100_000)
    with pytest.raises(ConsortiumError):
        read_invitation(words)


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
