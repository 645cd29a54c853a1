"""What stands before the page: who may ask, how, and what every answer forbids a browser.

The page is for one person at this machine. Other programs of the machine, other pages in the same
browser, and names of other machines that are made to point here (DNS rebinding) get a plain 404,
which tells nothing. A web page elsewhere can neither read an answer nor post a form.
"""

from __future__ import annotations

import hmac

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LARGEST_BODY = 256 * 1024
FORM = "application/x-www-form-urlencoded"
LOOPBACK = "127.0.0.1"
FAULT = (
    "The page failed, and predicted nothing. Go back and send the form again; if it fails again, "
    "stop it by Ctrl-C and ask for the prediction by: polyclinic predict FILE --patient"
)


class Guard:
    """Lets requests of the page itself through to `page`, and nothing else.

    Parameters
    ----------
    page : ASGI application
        Answers GET and POST.
    path : str
        The page's path, secret: ``/TOKEN/``.
    port : int
        The port on loopback that it is served on.
    policy : str
        The content security policy of its answers.
    """

    def __init__(self, page: ASGIApp, path: str, port: int, policy: str):
        self._page = ServerErrorMiddleware(page, handler=_told_of_a_fault)
        self._path = path.encode()
        self._host = f"{LOOPBACK}:{port}"
        self._headers = {
            "content-security-policy": policy,
            "cache-control": "no-store",
            "referrer-policy": "no-referrer",
            "x-content-type-options": "nosniff",
            "x-frame-options": "DENY",
            "cross-origin-opener-policy": "same-origin",
            "cross-origin-resource-policy": "same-origin",
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self._headers)
            await send(message)

        allowed = self._is_for_the_page(scope)
        answer = self._page if allowed else PlainTextResponse("Not found", status_code=404)
        await answer(scope, receive, send_guarded)

    def _is_for_the_page(self, scope: Scope) -> bool:
        headers, method = Headers(scope=scope), scope["method"]
        known = hmac.compare_digest(scope["raw_path"], self._path) and not scope["query_string"]
        if not known or headers.getlist("host") != [self._host]:
            return False
        return method in {"GET", "HEAD"} or (method == "POST" and self._is_own_form(headers))

    def _is_own_form(self, headers: Headers) -> bool:
        """Say whether a form comes from the page itself.

        A browser that is told to send no referrer names no origin either (Fetch, 3.2), and says
        `Sec-Fetch-Site` instead (Fetch Metadata Request Headers, 2.4).
        """
        own = headers.get("origin") == f"http://{self._host}"
        near = headers.get("sec-fetch-site") == "same-origin"
        foreign = headers.get("sec-fetch-site", "same-origin") != "same-origin"
        return (own or near) and not foreign and headers.get("content-type") == FORM


async def _told_of_a_fault(_request: Request, _fault: Exception) -> Response:
    """Answer where the page failed unexpectedly: nothing of what was entered, or of why."""
    return PlainTextResponse(FAULT, status_code=500)


async def read_body(receive: Receive) -> bytes | None:
    """Return the body of a request; None if it is larger than any form."""
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > LARGEST_BODY or message["type"] == "http.disconnect":
            return None
        if not message.get("more_body", False):
            return bytes(body)
