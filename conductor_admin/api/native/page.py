"""`GET /`, `/docs` and `/assets/{file}`: the pages in the browser, as files that come with this package.

Knows files and headers only: the page itself asks the other routes, with a key where one is needed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from conductor_admin.gateway import Gateway
from handlers.wire import RequestError

FOLDER = Path(__file__).parent.parent.parent / "console"
INDEX, DOCS = "index.html", "docs.html"
MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self' data:",  # charts come as base64 in an answer's findings
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        # A model's text never becomes markup: the browser refuses innerHTML and the like.
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    # Kept by the browser, but asked for each time: the modules of one version belong together.
    "cache-control": "no-cache",
}


@dataclass(frozen=True, slots=True)
class Asset:
    """A file of the page, as it is sent."""

    content: bytes
    media_type: str
    etag: str


def router(gateway: Gateway) -> APIRouter:
    """The routes of the page; they need nothing of `gateway`."""
    routes = APIRouter()
    assets = read_assets()

    @routes.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
    async def page(request: Request) -> Response:
        """The chat page."""
        return _sent(request, assets[INDEX])

    @routes.api_route("/docs", methods=["GET", "HEAD"], include_in_schema=False)
    async def docs(request: Request) -> Response:
        """The page over `/openapi.json`; it loads nothing from elsewhere."""
        return _sent(request, assets[DOCS])

    @routes.api_route("/assets/{file}", methods=["GET", "HEAD"], include_in_schema=False)
    async def asset(file: str, request: Request) -> Response:
        """A file that the page refers to."""
        found = assets.get(file)
        if found is None:
            raise RequestError("the page has no such file", status=404, code="not_found")
        return _sent(request, found)

    return routes


def read_assets(folder: Path = FOLDER) -> Mapping[str, Asset]:
    """Read all files of the page once, by name: the name in a request never becomes a path."""
    assets = {}
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        etag = f'"{hashlib.sha256(content).hexdigest()[:24]}"'
        assets[path.name] = Asset(content, MEDIA_TYPES[path.suffix], etag)
    return assets


def _sent(request: Request, asset: Asset) -> Response:
    headers = {**HEADERS, "etag": asset.etag}
    known = {tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")}
    if known & {asset.etag, "*"}:
        return Response(status_code=304, headers=headers)
    return Response(asset.content, media_type=asset.media_type, headers=headers)
