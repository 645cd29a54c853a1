"""The page itself: an empty form on GET; on POST what the model says, or what to correct.

It has one address, sets no cookie, and remembers nothing of a request once it is answered.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from importlib.resources import files
from urllib.parse import parse_qsl

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from polyclinic_common.bedside import pictures
from polyclinic_common.bedside.entered import Entered, read_form
from polyclinic_common.bedside.facts import ModelFacts
from polyclinic_common.bedside.form import Group
from polyclinic_common.bedside.guard import read_body
from polyclinic_common.bedside.view import ResultView
from polyclinic_common.errors import PolyclinicError

MOST_ANSWERS = 4096
STYLE = files("polyclinic_common.bedside").joinpath("style.css").read_text(encoding="utf-8")
TOO_LARGE = PlainTextResponse("The form is too long", status_code=413)
Answer = Callable[[Entered], ResultView]


def policy() -> str:
    """Return the content security policy: the page's own style by its hash, and no script."""
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; form-action 'self'; "
        "frame-ancestors 'none'; base-uri 'none'"
    )


class Page:
    """The page of one model, an ASGI application.

    Parameters
    ----------
    groups : tuple of Group
        Its form.
    facts : ModelFacts
        What is said about the model.
    answer : callable
        What the model says of what was entered.
    start : mapping
        What stands in the form at first, by key.
    """

    def __init__(
        self,
        groups: tuple[Group, ...],
        facts: ModelFacts,
        answer: Answer,
        start: Mapping[str, str],
    ):
        self._groups, self._facts, self._answer = groups, facts, answer
        self._start = read_form(groups, start)
        environment = Environment(
            loader=PackageLoader("polyclinic_common.bedside", "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.globals.update(style=STYLE, pictures=pictures)
        self._template = environment.get_template("page.html.j2")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request that the guard let through."""
        if scope["method"] == "POST":
            body = await read_body(receive)
            response = TOO_LARGE if body is None else self._answered(body)
        else:
            response = self._shown(self._start)
        await response(scope, receive, send)

    def _answered(self, body: bytes) -> Response:
        try:
            posted = dict(parse_qsl(body.decode("utf-8"), max_num_fields=MOST_ANSWERS))
        except ValueError:
            return PlainTextResponse("This is not the page's form", status_code=400)
        entered = read_form(self._groups, posted)
        if entered.problems:
            return self._shown(entered, status=422)
        try:
            return self._shown(entered, result=self._answer(entered))
        except PolyclinicError as error:
            return self._shown(entered, error=error, status=422)

    def _shown(
        self,
        entered: Entered,
        result: ResultView | None = None,
        error: PolyclinicError | None = None,
        status: int = 200,
    ) -> Response:
        text = self._template.render(
            facts=self._facts, groups=self._groups, entered=entered, result=result, error=error
        )
        return HTMLResponse(text, status_code=status)
