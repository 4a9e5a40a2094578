"""From synchronous answers to Starlette routes: one lock, one place where refusals become responses."""

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, compile_path

Answer = Callable[[Request, bytes], Response]
"""A handler: the request and its body, already read. It runs under the lock and never waits."""


class Refusal(Exception):
    """A finished error response, raised from anywhere below a handler."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status_code)
        self.response = response


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of a routing table."""

    method: str
    path: str
    answer: Answer


Guard = Callable[[Request, bytes, Answer], Response]
"""Wraps every answer of one system: authorisation before, its own error shapes after."""


def routes(rules: Iterable[Rule], lock: threading.RLock, guard: Guard) -> list[Route]:
    """Starlette routes in the order of the table; the verbs of one path share a route, so others get 405."""
    by_path: dict[str, dict[str, Answer]] = {}
    for rule in rules:
        by_path.setdefault(rule.path, {})[rule.method] = rule.answer
    return [_route(path, answers, lock, guard) for path, answers in by_path.items()]


def _route(path: str, answers: dict[str, Answer], lock: threading.RLock, guard: Guard) -> Route:
    async def endpoint(request: Request) -> Response:
        body = await request.body()
        answer = answers["GET" if request.method == "HEAD" else request.method]
        with lock:
            try:
                return guard(request, body, answer)
            except Refusal as refusal:
                return refusal.response

    return Route(path, endpoint, methods=list(answers))


class WrongVerb(Exception):
    """The path leads somewhere, but not with this verb."""


class Dispatcher:
    """Finds an answer without the event loop, so that requests inside a `$batch` take the same way as others."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        by_path: dict[str, dict[str, Answer]] = {}
        for rule in rules:
            by_path.setdefault(rule.path, {})[rule.method] = rule.answer
        self._paths = [(*compile_path(path), answers) for path, answers in by_path.items()]

    def find(self, method: str, path: str) -> tuple[Answer, dict[str, Any]] | None:
        """The first rule that fits path and verb, with the path's parameters; None for unknown paths."""
        known = False
        for pattern, _, convertors, answers in self._paths:
            match = pattern.match(path)
            if match is None:
                continue
            answer = answers.get("GET" if method == "HEAD" else method)
            if answer is not None:
                return answer, {name: convertors[name].convert(text) for name, text in match.groupdict().items()}
            known = True
        if known:
            raise WrongVerb(method)
        return None


def json_response(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(value), status, headers, media_type="application/json")


def json_values(body: bytes) -> dict[str, Any]:
    """The members of a JSON object; none for an empty body."""
    values = orjson.loads(body) if body.strip() else {}
    if not isinstance(values, dict):
        raise Refusal(json_response({"error": "the body must be a JSON object"}, 400))
    return values


def origin(request: Request) -> str:
    """Scheme and host as the client wrote them, so that links lead back the way it came."""
    return f"https://{request.headers.get('host', 'localhost')}"


def operation(request: Request, name: str) -> None:
    """Name for the call log what this request does."""
    request.scope.setdefault("sandbox", {})["operation"] = name


def fields_named(request: Request, names: tuple[str, ...]) -> None:
    """Note for the call log which fields a write names."""
    request.scope.setdefault("sandbox", {})["fields"] = names
