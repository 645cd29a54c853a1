"""The invitation that a person names: typed, in a file, or in a mail that was saved."""

from __future__ import annotations

import sys
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from polyclinic_common.consortium.invitation import Invitation

HELP = "The invitation, the file that holds it, or - to type it in."


def read_invited(named: str) -> Invitation:
    """Return the invitation that was named on the command line.

    Raises
    ------
    ConsortiumError
        C005 if there is no such file, it cannot be read, or it holds no invitation.
    """
    from polyclinic_common.consortium.invitation import holds_invitation, read_invitation

    if named == "-":
        return read_invitation(sys.stdin.read())
    if holds_invitation(named) and not _is_file(named):
        return read_invitation(named)
    return read_invitation(_text_in(named))


def _is_file(named: str) -> bool:
    try:
        return Path(named).is_file()
    except (OSError, ValueError):  # too long for the name of a file, or none at all
        return False


def _text_in(named: str) -> str:
    from polyclinic_common.consortium.invitation import holds_invitation
    from polyclinic_common.errors import Code, ConsortiumError

    try:
        content = Path(named).read_bytes()
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "no name of a file"
        shown = named if len(named) <= 60 else f"{named[:60]}…"
        raise ConsortiumError(
            Code.INVITATION_UNREADABLE,
            f"{shown!r} is no invitation, and no file that can be read ({why}).",
            "Check the path, or give the invitation itself: all that begins with polyclinic-.",
        ) from None
    text = _decoded(content)
    return text if holds_invitation(text) else f"{text}\n{_mailed(content)}"


def _decoded(content: bytes) -> str:
    """Return a file's text; an invitation's own letters are ASCII, whatever stands around it."""
    from polyclinic_common.files import decoded

    try:
        return decoded(content)
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _mailed(content: bytes) -> str:
    """Return the texts of a mail that was saved as it travelled."""
    mail = message_from_bytes(content, _class=EmailMessage, policy=policy.default)
    parts = [part for part in mail.walk() if part.get_content_maintype() == "text"]
    payloads = (part.get_payload(decode=True) for part in parts)
    return "\n".join(_decoded(payload) for payload in payloads if isinstance(payload, bytes))
