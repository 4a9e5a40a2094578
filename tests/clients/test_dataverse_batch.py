"""`multipart/mixed` without a network: what is written, and what servers are known to answer."""

import json
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from d365_campaign.clients.dataverse_batch import PartRequest, answers_in, batch_type, compose
from d365_campaign.clients.dataverse_faults import judge
from d365_campaign.clients.http import Answer, Verdict
from d365_campaign.sandbox.multipart import answer_part, boundary_of, inner_request, joined_parts, split_parts

PATCH = {"If-Match": 'W/"7"', "Content-Type": "application/json"}
DONE = 'HTTP/1.1 200 OK\r\nETag: W/"8"\r\nContent-Type: application/json\r\n\r\n{"a": true}'
PART = f"Content-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n{DONE}"


def answer(text: str | bytes, kind: str = "multipart/mixed; boundary=b") -> Answer:
    return Answer(200, {"Content-Type": kind}, text.encode() if isinstance(text, str) else text)


def read(text: str | bytes, kind: str = "multipart/mixed; boundary=b") -> Sequence[Answer]:
    found = answers_in(answer(text, kind))
    assert found is not None
    return found


bodies = st.dictionaries(st.text(), st.booleans() | st.text())


@given(st.lists(bodies, max_size=5))
def test_another_reader_finds_the_requests_as_they_were_written(values: Sequence[Mapping[str, object]]) -> None:
    parts = [
        PartRequest("PATCH", f"https://org.example/c({n})?$select=a", PATCH, json.dumps(body).encode())
        for n, body in enumerate(values)
    ]

    boundary = boundary_of(batch_type("batch_1"))
    found = [inner_request(part) for part in split_parts(compose(parts, "batch_1"), boundary or "")]

    assert [(r.method, r.url, json.loads(r.body)) for r in found] == [
        (p.method, p.url, json.loads(p.body)) for p in parts
    ]
    assert all(r.headers["if-match"] == 'W/"7"' for r in found)


@given(st.lists(st.tuples(st.sampled_from([200, 204, 404, 412, 429, 500]), bodies, st.booleans()), max_size=5))
def test_answers_are_read_as_another_writer_wrote_them(
    answers: Sequence[tuple[int, Mapping[str, object], bool]],
) -> None:
    texts = [json.dumps(body, indent=2 if indented else None, ensure_ascii=indented) for _, body, indented in answers]
    parts = [
        answer_part(status, [("Content-Type", "application/json")], text.encode(), None)
        for (status, _, _), text in zip(answers, texts, strict=True)
    ]

    found = read(joined_parts(parts, "batchresponse_1"), "multipart/mixed; boundary=batchresponse_1")

    assert [(part.status, part.json()) for part in found] == [(status, body) for status, body, _ in answers]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        pytest.param(f"--b\r\n{PART}\r\n--b--\r\n", 'multipart/mixed; boundary="b"', id="quoted boundary"),
        pytest.param(f"--b\r\n{PART}\r\n--b--", "Multipart/Mixed;Boundary=b;charset=utf-8", id="no CRLF at the end"),
        pytest.param(f"--b\r\n{PART}\r\n\r\n--b--\r\n", "multipart/mixed; boundary=b", id="two blank lines"),
        pytest.param(f"--b\r\n{PART.lower()}\r\n--b--\r\n".replace("http/1.1", "HTTP/1.1"), "", id="lower case"),
        pytest.param(f"--b\n{PART}\n--b--\n".replace("\r\n", "\n"), "", id="bare line feeds"),
        pytest.param(f"ignored\r\n--b \r\n{PART}\r\n--b-- \r\nignored", "", id="preamble and epilogue"),
    ],
)
def test_what_servers_do_differently_makes_no_difference(text: str, kind: str) -> None:
    [part] = read(text, kind or "multipart/mixed; boundary=b")

    assert (part.status, part.json()) == (200, {"a": True})
    assert part.headers["etag"].upper() == part.headers["ETag"].upper() == 'W/"8"'


def test_line_feeds_inside_a_body_stay() -> None:
    [part] = read(f"--b\r\n{PART}\r\n--b--\r\n".replace('{"a": true}', '{\n  "a":\n\n true\n}'))

    assert part.json() == {"a": True}


def test_an_answer_may_have_neither_headers_nor_body() -> None:
    [part] = read("--b\r\nContent-Type: application/http\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n\r\n--b--\r\n")

    assert (part.status, dict(part.headers), part.body) == (204, {}, b"")


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        pytest.param(f"--b\r\n{PART}\r\n", "multipart/mixed; boundary=b", id="cut before the end"),
        pytest.param(f"--b\r\n{PART}\r\n--b--\r\n", "multipart/mixed; boundary=other", id="another boundary"),
        pytest.param(f"--b\r\n{PART}\r\n--b--\r\n", "multipart/mixed", id="no boundary"),
        pytest.param("<html>maintenance</html>", "text/html; boundary=b", id="a page"),
        pytest.param(
            "--b\r\nContent-Type: text/plain\r\n\r\nhello\r\n--b--\r\n", "multipart/mixed; boundary=b", id="text"
        ),
        pytest.param("", "multipart/mixed; boundary=b", id="empty"),
    ],
)
def test_what_is_no_complete_batch_answer_is_not_read_at_all(text: str, kind: str) -> None:
    assert answers_in(answer(text, kind)) is None


@pytest.mark.parametrize("status", [200, 400, 429, 500])
def test_a_batch_is_not_judged_by_the_status_of_one_part(status: int) -> None:
    """A server that stops at a failed part answers with its status; the parts before it took effect."""
    assert judge(Answer(status, {"Content-Type": "multipart/mixed; boundary=b"}, b"")) is Verdict.FINAL
