"""Assembles the REST API: both versions and its documents on one FastAPI application, with the answers to errors."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from http import HTTPStatus
from typing import Final
from urllib.parse import quote

from fastapi import FastAPI
from fastapi import Request as HttpRequest
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.routing import Route

from services.planner.api import openapi_document, rest_v1, rest_v2_flows, rest_v2_instances
from services.planner.api.calls import Calls
from services.planner.api.problem import Kind, Problem
from services.planner.api.rate_limits import RateLimiter
from services.planner.api.request_guard import RequestGuard
from services.planner.api.rest_responses import V1_PREFIX, problem_response, refusal
from shared.domain.problem_words import in_words
from shared.service.proxies import Proxies

REQUESTS_OF_CALLER: Final = 500
HEALTH_PREFIX: Final = "/@in/"

_log = logging.getLogger(__name__)


def application(
    calls: Calls,
    *,
    limits: RateLimiter,
    body_bytes: int,
    refuses_web_pages: bool = False,
    proxies: Proxies | None = None,
    requests_of_caller: int = REQUESTS_OF_CALLER,
) -> FastAPI:
    """Return the whole REST API. `body_bytes`: the largest body that is read. `proxies`: those that name their callers,
    each of which may have `requests_of_caller` in progress.

    `refuses_web_pages`: nobody has to log in, so what pages of other sites send by a browser here is refused.
    """
    app = FastAPI(
        title="Triton",
        summary="Releases applications on Kubernetes in controlled batches.",
        version="2",
        openapi_url="/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=_operation_id,
    )
    app.state.calls = calls
    app.state.limits = limits
    app.state.routes = [route for route in app.routes if isinstance(route, Route)]
    first_version = (rest_v1.health_router, rest_v1.router)
    for router in (*first_version, rest_v2_flows.router, rest_v2_instances.router, openapi_document.router):
        app.include_router(router)
        app.state.routes += router.routes
    app.openapi = lambda: openapi_document.document(app)  # type: ignore[method-assign]
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _fault)
    app.add_middleware(
        RequestGuard,
        body_bytes=body_bytes,
        refuses_web_pages=refuses_web_pages,
        proxies=proxies or Proxies(),
        requests_of_caller=requests_of_caller,
    )
    return app


def _operation_id(route: APIRoute) -> str:
    return f"v1_{route.name}" if route.path.startswith(V1_PREFIX) else route.name


async def _problem(request: HttpRequest, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return problem_response(request.url.path, error)


async def _invalid(request: HttpRequest, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    message = "; ".join(
        f"{'.'.join(str(part) for part in item['loc'] if part != 'body') or 'body'}: {in_words(item)}"
        for item in error.errors()
    )
    return refusal(request.url.path, Kind.INVALID.http, "Invalid", message)


async def _http_error(request: HttpRequest, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    if error.status_code == HTTPStatus.NOT_FOUND and (path := _without_slash(request)):
        # as the original: a GET for ever, else with the method and the body that it has
        status = HTTPStatus.MOVED_PERMANENTLY if request.method == "GET" else HTTPStatus.TEMPORARY_REDIRECT
        query = f"?{request.url.query}" if request.url.query else ""
        return Response(status_code=status, headers={"Location": quote(path, safe="/@") + query})
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(sorted(set(_methods(request, request.url.path))))
    text = f"{request.method} {request.url.path}: {error.detail}"
    return refusal(request.url.path, error.status_code, _reason(error.status_code), text, headers)


def _without_slash(request: HttpRequest) -> str:
    """Return the path of the first version without the slash at its end, if that one has the method; else nothing."""
    path = request.scope["path"]
    shorter = path.removesuffix("/")
    old = path.startswith((V1_PREFIX, HEALTH_PREFIX)) and shorter != path
    return shorter if old and request.method in _methods(request, shorter) else ""


def _methods(request: HttpRequest, path: str) -> Iterator[str]:
    """Yield the methods that the path has."""
    for route in request.app.state.routes:
        if route.path_regex.match(path):
            yield from route.methods


async def _fault(request: HttpRequest, error: Exception) -> Response:
    _log.error("%s %s", request.method, request.url.path, exc_info=error)
    text = "a fault of Triton's: its log has more"
    return refusal(request.url.path, HTTPStatus.INTERNAL_SERVER_ERROR, "Internal", text)


def _reason(status: int) -> str:
    """Return the reason of an error that is no `Problem`."""
    reasons = {400: "Invalid", 413: "TooLarge", 408: "TooSlow"}
    return reasons.get(status) or HTTPStatus(status).phrase.replace(" ", "")
