"""Serves the pages, ``/`` to try the service by hand and ``/docs`` with Swagger UI, and their files."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse

from service.errors import NotFoundError
from service.http.routers.dependencies import ServicesOf
from service.http.web_files import ASSETS, MEDIA_TYPES, read_page

ONLY_OURS = (
    "default-src 'none'; connect-src 'self'; script-src 'self'; base-uri 'self'; form-action 'none'; "
    "frame-ancestors 'none'"
)
# The page shows catalogue text through textContent alone; should that fail, a script reaches no other server.
PAGE_POLICY = (
    f"{ONLY_OURS}; img-src 'self'; style-src 'self'; require-trusted-types-for 'script'; trusted-types 'none'"
)
# Swagger UI's style sheet holds its icons.
DOCS_POLICY = f"{ONLY_OURS}; img-src 'self' data:; style-src 'self'"
ASSET_HEADERS = {
    "Cache-Control": "public, max-age=31536000, immutable",
    "Content-Security-Policy": "default-src 'none'; sandbox",
}

router = APIRouter(include_in_schema=False)


@router.get("/")
def page(services: ServicesOf) -> HTMLResponse:
    """The page."""
    return _html("index.html", services.links.root_path, PAGE_POLICY)


@router.get("/docs")
def docs(services: ServicesOf) -> HTMLResponse:
    """The description of the API, to read and to try."""
    return _html("docs.html", services.links.root_path, DOCS_POLICY)


@router.get("/docs/")
async def docs_without_slash() -> RedirectResponse:
    """The way to ``/docs``, on which its relative links count."""
    return RedirectResponse("../docs", status_code=308)


@router.get("/assets/{name}")
async def asset(name: str) -> FileResponse:
    """A file of the pages."""
    path = ASSETS.get(name)
    if path is None:
        raise NotFoundError(f"no file {name[:80]!r}")
    return FileResponse(path, media_type=MEDIA_TYPES[path.suffix], headers=ASSET_HEADERS)


def _html(name: str, root_path: str, policy: str) -> HTMLResponse:
    # Not kept: after an upgrade the page must name the new files.
    return HTMLResponse(
        read_page(name, root_path), headers={"Content-Security-Policy": policy, "Cache-Control": "no-cache"}
    )
