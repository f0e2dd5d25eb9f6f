"""Which requests are answered: those that the pages make, under a name of this server."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Collection, Mapping
from http import HTTPStatus

from vae_jax.data.errors import one_line

# What a browser may load: this server's own files and what the page itself holds. Gradio needs the inline and evaluated
# scripts.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; frame-ancestors 'none'"
)
HEADERS = [(b"content-security-policy", POLICY.encode()), (b"referrer-policy", b"no-referrer")]
OWN = ("/", "/manifest.json", "/favicon.ico")
# What a page asks of Gradio, which has more, such as /gradio_api/file=PATH and /gradio_api/proxy=ADDRESS.
PAGE = re.compile(
    "/?|/theme[.]css|/(assets|static)/.+|"
    "/gradio_api/(app_id|component_server/|heartbeat/[^/]+|queue/(data|join)|run/predict|upload|upload_progress)"
)
UPLOAD = "/gradio_api/upload"
MOST_BYTES = 1_000_000  # in a request, besides the file


def own_names(host: str, others: Collection[str]) -> set[str]:
    """Names under which browsers reach a server that listens at `host`."""
    names = {"localhost", host, *others}
    if host not in ("localhost", "127.0.0.1", "::1"):
        names |= {socket.gethostname(), socket.getfqdn()}
    return {name.lower() for name in names}


def is_address(name: str) -> bool:
    """Whether this is an address, not a name."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class Guard:
    """Refuses all requests but those that the pages make, and adds the policy to every answer.

    Args:
      pages: addresses of the pages.
      names: of this server, see `own_names`.
      upload_bytes: largest upload.
    """

    def __init__(self, app, pages: Collection[str], names: Collection[str], upload_bytes: int):
        self._app, self._pages, self._names, self._upload_bytes = app, pages, names, upload_bytes

    async def __call__(self, scope, receive, send):
        async def with_headers(message):
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *HEADERS]}
            await send(message)

        refused = self.refusal(scope["path"], dict(scope["headers"])) if scope["type"] == "http" else None
        if refused:
            status, reason = refused
            kind = [(b"content-type", b"text/plain; charset=utf-8")]
            await with_headers({"type": "http.response.start", "status": status, "headers": kind})
            await send({"type": "http.response.body", "body": f"{one_line(reason)}\n".encode()})
        else:
            await self._app(scope, receive, with_headers)

    def refusal(self, path: str, headers: Mapping[bytes, bytes]) -> tuple[HTTPStatus, str] | None:
        """Why a request is not answered, or None.

        A page of another server may have its name resolved to this one (DNS rebinding): then `Host` has that name. So
        names have to be known; an address is its own proof.
        """
        host, origin = (headers.get(name, b"").decode("latin-1").lower() for name in (b"host", b"origin"))
        found = re.fullmatch(r"\[([0-9a-f:.]+)\](:\d+)?|([^][:]+)(:\d+)?", host)
        name = (found[1] or found[3]).rstrip(".") if found else ""
        if name not in self._names and not is_address(name):
            return (
                HTTPStatus.BAD_REQUEST,
                f"{name[:100]!r} is no name of this server; if it should be, add --names {name[:100]}",
            )
        if origin and origin.partition("://")[2] != host:
            return HTTPStatus.FORBIDDEN, f"a page of {origin[:100]} may not ask {host[:100]}"
        if path not in OWN and not any(
            path.startswith(f"/{page}") and PAGE.fullmatch(path.removeprefix(f"/{page}")) for page in self._pages
        ):
            return HTTPStatus.NOT_FOUND, "no such page"
        most = MOST_BYTES + path.endswith(UPLOAD) * self._upload_bytes
        if b"transfer-encoding" in headers or int(headers.get(b"content-length", b"0")) > most:
            return HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"more than {most:,} bytes, or of unknown length"
        return None
