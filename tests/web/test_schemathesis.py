"""The interface against its own OpenAPI document: whatever is asked of the real server, over HTTP, beside a pipeline
that runs, nothing breaks and nothing is answered that is not documented.

What never ends by itself (the feed, moving pictures) cannot be read to its end: of these the beginning is looked at.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode, checks
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi import checks as openapi

from pipeline.app.web.allowance import Allowance
from tests.web.serving import GUARDED, OPERATOR, Served, bearer, serving

# The network's thread (of ICE, say) may draw from `random` while Hypothesis draws, which takes that for its own doing.
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")
ENDLESS = ("/api/feed", "/api/streams/{name}/mjpeg")
CONFIG = """
sources:
  door: {kind: pattern, fps: 5, realtime: true}
  lobby: {kind: webrtc}
sinks:
  log: {kind: jsonl, path: FOLDER/log.jsonl}
  db: {kind: sqlite, path: FOLDER/log.sqlite}
"""
CHECKS = (
    checks.not_a_server_error,
    openapi.status_code_conformance,
    openapi.content_type_conformance,
    openapi.response_headers_conformance,
    openapi.response_schema_conformance,
)
often = settings(
    max_examples=12,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@schemathesis.serializer("application/sdp", "application/trickle-ice-sdpfrag")
def as_text(context: object, value: object) -> bytes:
    return str(value).encode("utf-8", "surrogatepass")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("api")
    (folder / "c.yaml").write_text(CONFIG.replace("FOLDER", str(folder)))
    with serving(GUARDED, target=str(folder / "c.yaml"), start=True, sinks=False) as it:
        end = time.monotonic() + 60
        while httpx.get(f"{it.url}/api/ready").status_code != 200 and time.monotonic() < end:
            time.sleep(0.1)
        it.site.access._guesses = Allowance(1e9, 1)  # all those tokens, and whoever comes after them were turned away
        yield it


@pytest.fixture(scope="module")
def operations(served: Served) -> list[APIOperation]:
    schema = schemathesis.openapi.from_url(f"{served.url}/openapi.json", headers=bearer(OPERATOR))
    found = [one.ok() for one in schema.get_all_operations()]
    assert len(found) > 20
    return found


def each_case(operation: APIOperation, check: Callable[[Case], None]) -> None:
    """Of what fits the document and of what does not, always the same ones."""
    for mode in GenerationMode:

        @often
        @given(case=operation.as_strategy(generation_mode=mode))
        def ask(case: Case) -> None:
            check(case)

        try:
            ask()
        except Unsatisfiable:
            assert mode is GenerationMode.NEGATIVE  # nothing is wrong to ask of what takes no parameters


def of_what_is_there(case: Case) -> None:
    """Every other name is one that is there, but to be taken away."""
    for key, name in (("name", "door"), ("stream", "door"), ("cascade", "people")):
        value = case.path_parameters.get(key)
        if isinstance(value, str) and len(value) % 2 == 0 and case.method != "DELETE":
            case.path_parameters[key] = name


@pytest.mark.slow
def test_whatever_is_asked_is_answered_as_documented(served: Served, operations: list[APIOperation]) -> None:
    wrong: dict[str, str] = {}
    seen: Counter[str] = Counter()

    def check(case: Case) -> None:
        of_what_is_there(case)
        answer = case.call_and_validate(headers=bearer(OPERATOR), checks=CHECKS, timeout=30, session=session)
        seen[f"{case.operation.label} {answer.status_code}"] += 1

    with requests.Session() as session:
        for operation in operations:
            if operation.path not in ENDLESS:
                try:
                    each_case(operation, check)
                except (Failure, FailureGroup) as error:
                    wrong[operation.label] = str(error)
    assert not wrong, "\n\n".join(f"{label}\n{error}" for label, error in wrong.items())
    for operation in operations:  # else all of it might have been turned away at the gate
        if operation.method == "get" and "{" not in operation.path and operation.path not in ENDLESS:
            assert seen[f"{operation.label} 200"], seen


@pytest.mark.slow
def test_what_never_ends_begins_as_documented(served: Served, operations: list[APIOperation]) -> None:
    seen: Counter[str] = Counter()

    def check(case: Case) -> None:
        of_what_is_there(case)
        asked = case.as_transport_kwargs(headers=bearer(OPERATOR))
        documented = case.operation.definition.raw["responses"]
        url, sent = asked["url"], {name: asked.get(name) for name in ("params", "headers", "cookies")}
        with client.stream(asked["method"], url, timeout=30, **sent) as answer:
            assert answer.status_code < 500
            content = documented[str(answer.status_code)]["content"]
            assert answer.headers["content-type"].partition(";")[0] in content
        seen[f"{case.operation.path} {answer.status_code}"] += 1

    with httpx.Client() as client:
        for operation in operations:
            if operation.path in ENDLESS:
                each_case(operation, check)
    assert all(seen[f"{path} 200"] for path in ENDLESS), seen


@pytest.mark.slow
def test_what_is_not_documented_is_not_there(served: Served, operations: list[APIOperation]) -> None:
    methods: dict[str, set[str]] = {}
    for operation in operations:
        methods.setdefault(operation.path, set()).add(operation.method.upper())
    with httpx.Client(base_url=served.url, headers=bearer(OPERATOR)) as client:
        for path, known in methods.items():
            for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} - known:
                answer = client.request(method, re.sub(r"{[^}]*}", "x", path))
                assert answer.status_code == 405, f"{method} {path}: {answer.status_code}"
                assert set(answer.headers["allow"].split(", ")) <= known | {"HEAD"}


@pytest.mark.slow
def test_the_pipeline_was_untouched(served: Served) -> None:
    """By all of the above, which ran before."""
    before = served.running.snapshot().streams[0].results
    time.sleep(2)
    assert served.running.healthy
    assert served.running.snapshot().streams[0].results > before


def test_every_answer_is_documented_in_one_shape(served: Served) -> None:
    document = httpx.get(f"{served.url}/openapi.json", headers=bearer(OPERATOR)).json()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            for status, answer in operation["responses"].items():
                if status >= "400" and status != "503":
                    [(kind, said)] = answer["content"].items()
                    assert kind == "application/json" and said["schema"]["$ref"].endswith("/Problem"), (method, path)
