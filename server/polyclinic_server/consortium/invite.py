"""Inviting a hospital."""

from __future__ import annotations

import time

from pydantic import TypeAdapter, ValidationError

from polyclinic_common.consortium.address import read_host, require_reachable
from polyclinic_common.consortium.invitation import Invitation
from polyclinic_common.errors import Code, ConsortiumError
from polyclinic_common.study.base import SITE_RULE, Site
from polyclinic_common.text import tidy
from polyclinic_server.folder import ServerFolder

_NAME = TypeAdapter(Site)
_HOUR_S = 3600


def invite_site(folder: ServerFolder, name: str, hours: int) -> Invitation:
    """Return a new invitation for a hospital and write it down; earlier ones end.

    Raises
    ------
    ConsortiumError
        C013 if the name is not one that studies can hold, is another's in other letters, or the
        hospital has joined; C031 if the settings' address is none that hospitals can call.
    """
    name = tidy(name)
    try:
        _NAME.validate_python(name)
    except ValidationError:
        raise ConsortiumError(
            Code.SITE_STATE, f"{name!r} cannot be the name of a hospital.", SITE_RULE
        ) from None
    settings = folder.settings
    invitation = Invitation.create(
        require_reachable(read_host(settings.address)),
        settings.ports.enrolment,
        name,
        int(time.time()) + hours * _HOUR_S,
        folder.authority_certificate,
    )
    store = folder.open_store()
    store.invite(invitation)
    store.close()
    return invitation
