"""What `install` puts into the OpenAPI document."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, FastAPI
from pydantic import BaseModel

from lifepool import Pool
from lifepool.integrations.fastapi import PROBLEM_SCHEMA, install, pool_responses
from tests.integrations.clients import TestClient

DOCUMENTED = {"413", "500", "503", "504"}


class Problem(BaseModel):
    """An app's own idea of a problem."""

    code: int


async def nothing() -> None:
    """Do nothing: a handler."""


def an_app() -> FastAPI:
    app = FastAPI()
    install(app, Pool(backend="inline"))
    return app


def references(node: Any) -> list[str]:
    """Yield every `$ref` in a document."""
    if isinstance(node, list):
        return [found for item in node for found in references(item)]
    if not isinstance(node, dict):
        return []
    own = [node["$ref"]] if "$ref" in node else []
    return own + references(list(node.values()))


def follow(schema: dict[str, Any], reference: str) -> Any:
    node: Any = schema
    for part in reference.removeprefix("#/").split("/"):
        node = node[part]
    return node


def responses(app: FastAPI, path: str = "/", method: str = "get") -> dict[str, Any]:
    found: dict[str, Any] = app.openapi()["paths"][path][method]["responses"]
    return found


def test_every_response_is_a_problem_whose_reference_resolves() -> None:
    app = an_app()
    app.get("/")(nothing)
    assert responses(app).keys() == {"200", *DOCUMENTED}
    for status in DOCUMENTED:
        content = responses(app)[status]["content"]
        assert list(content) == ["application/problem+json"]
        reference = content["application/problem+json"]["schema"]["$ref"]
        assert follow(app.openapi(), reference) == PROBLEM_SCHEMA


def test_all_references_of_the_document_resolve() -> None:
    app = an_app()
    app.post("/{number}")(lambda number, problem: None)
    found = references(app.openapi())
    assert found
    assert all(follow(app.openapi(), reference) for reference in found)


def test_retry_after_is_documented_where_it_is_sent() -> None:
    app = an_app()
    app.get("/")(nothing)
    assert responses(app)["503"]["headers"]["Retry-After"]["schema"] == {"type": "integer"}
    assert "headers" not in responses(app)["504"]


def test_an_answer_has_the_members_that_are_documented() -> None:
    app = an_app()

    @app.get("/")
    async def run() -> Any:
        return await app.state.pool.run(nothing)

    body = TestClient(app).get("/").json()
    assert set(PROBLEM_SCHEMA["required"]) <= set(body) <= set(PROBLEM_SCHEMA["properties"])


def test_routes_before_and_after_install_are_documented() -> None:
    app = FastAPI()
    app.get("/before")(nothing)
    install(app, Pool(backend="inline"))
    app.post("/after")(nothing)
    assert responses(app, "/before").keys() >= DOCUMENTED
    assert responses(app, "/after", "post").keys() >= DOCUMENTED


def test_included_routers_are_documented_also_nested_ones() -> None:
    app, router, inner = an_app(), APIRouter(), APIRouter()
    inner.get("/inner/{number}")(lambda number: None)
    router.include_router(inner, prefix="/outer")
    app.include_router(router)
    assert responses(app, "/outer/inner/{number}").keys() >= DOCUMENTED


def test_a_document_made_before_install_is_completed() -> None:
    app = FastAPI()
    app.get("/")(nothing)
    app.openapi()
    install(app, Pool(backend="inline"))
    assert responses(app).keys() >= DOCUMENTED


def test_the_document_is_made_once() -> None:
    app = an_app()
    app.get("/")(nothing)
    assert app.openapi() is app.openapi()


def test_a_route_added_after_the_document_was_made_is_documented() -> None:
    app = an_app()
    app.openapi()
    app.get("/late")(nothing)
    assert responses(app, "/late").keys() >= DOCUMENTED


def test_what_a_route_says_itself_is_left_alone() -> None:
    app = an_app()
    app.get("/", responses={503: {"description": "Closed on Sundays."}})(nothing)
    assert responses(app)["503"] == {"description": "Closed on Sundays."}
    assert responses(app).keys() >= DOCUMENTED


def test_a_schema_of_the_same_name_is_left_alone() -> None:
    app = an_app()
    app.get("/", response_model=Problem)(nothing)
    assert set(app.openapi()["components"]["schemas"]["Problem"]["properties"]) == {"code"}


def test_routes_can_be_left_out() -> None:
    app = FastAPI()
    app.get("/health")(nothing)
    app.post("/score")(nothing)
    asked: list[tuple[str, str]] = []

    def is_documented(path: str, method: str) -> bool:
        asked.append((path, method))
        return path != "/health"

    install(app, Pool(backend="inline"), is_documented=is_documented)
    assert responses(app, "/health").keys() == {"200"}
    assert responses(app, "/score", "post").keys() >= DOCUMENTED
    assert asked == [("/health", "GET"), ("/score", "POST")]


def test_a_route_can_ask_for_the_responses_itself() -> None:
    app = FastAPI()
    install(app, Pool(backend="inline"), is_documented=lambda path, method: False)
    app.get("/", responses=pool_responses())(nothing)
    app.get("/plain")(nothing)
    assert responses(app).keys() >= DOCUMENTED
    assert not DOCUMENTED & responses(app, "/plain").keys()
    assert all(follow(app.openapi(), reference) for reference in references(app.openapi()))


def test_the_documentation_page_works() -> None:
    app = an_app()
    with TestClient(app) as client:
        assert client.get("/docs").status_code == 200
        assert client.get("/openapi.json").json() == app.openapi()
