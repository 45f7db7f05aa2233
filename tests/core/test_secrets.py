"""No secret gets through, whatever shape it comes in."""

from __future__ import annotations

import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.secrets import RedactingFormatter, redact, remember, remember_url


@given(
    password=st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="/?#@ '\"\\"), min_size=4)
)
def test_a_password_in_a_url_is_hidden_known_or_not(password: str) -> None:
    shown = redact(f"could not open rtsp://admin:{password}@10.0.0.7:554/stream1 (401)")
    assert "rtsp://***@10.0.0.7:554/stream1" in shown
    assert "admin" not in shown


def test_a_remembered_secret_is_hidden_everywhere_and_in_every_quoting() -> None:
    remember("p@ss/w0rd!x")
    for text in ("it was p@ss/w0rd!x", "url p%40ss%2Fw0rd%21x", "p%40ss/w0rd%21x"):
        assert "w0rd" not in redact(text), text
    remember_url("rtsp://u:hunter%40two@cam/")
    assert redact("hunter@two and hunter%40two") == "*** and ***"
    remember_url("rtsp://[broken")


@pytest.mark.parametrize("secret", ["back\\slash", 'it\'s "both"', "ümläut-ïn-it", "a\tb\u2028c"])
def test_a_secret_is_hidden_as_programs_write_it(secret: str) -> None:
    remember(secret)
    for said in (secret, repr(secret), ascii(secret), json.dumps(secret), json.dumps(secret, ensure_ascii=False)):
        hidden = redact(f"it is {said} here")
        assert hidden.count("***") == 1, hidden
        assert len(hidden) <= len("it is '***' here")


def test_tokens_in_queries_are_hidden_and_the_rest_stays() -> None:
    shown = redact("GET http://cam/live.m3u8?token=abc123&quality=high&X-Amz-Signature=ff00")
    assert shown == "GET http://cam/live.m3u8?token=***&quality=high&X-Amz-Signature=***"


def test_log_lines_and_their_traces_are_redacted() -> None:
    formatter = RedactingFormatter("%(message)s")
    try:
        raise RuntimeError("rtsp://u:topsecret@cam/ refused")
    except RuntimeError as error:
        record = logging.LogRecord(
            "x", 40, "f", 1, "opening %s", ("rtsp://u:topsecret@cam/",), (type(error), error, None)
        )
    assert "topsecret" not in formatter.format(record)


def test_a_name_makes_no_lines_of_its_own() -> None:
    formatter = RedactingFormatter("%(message)s")
    record = logging.LogRecord("x", 40, "f", 1, "%s: is empty", ("a\nthresher: all is well\r\x1b[2J.png",), None)
    assert formatter.format(record) == "a\\nthresher: all is well[2J.png: is empty"
    assert formatter.format(logging.LogRecord("x", 40, "f", 1, "two\nlines", (), None)) == "two\nlines"


@pytest.mark.parametrize(
    "text",
    [
        "rtsp://u:a/Tr0ub4dor&3@h/",
        "rtsp://u:a#Tr0ub4dor&3@h/x",
        "rtsp://u:a?Tr0ub4dor&3@h/",
        "/home/me/rtsp:/u:Tr0ub4dor&3@h: there is no such model",
        "u:Tr0ub4dor&3@h",
        "//u:Tr0ub4dor&3@h/x",
        "rtsp:u:Tr0ub4dor&3@h/x",
        "rtsp:\\\\u:Tr0ub4dor&3@h\\x",
        "ssh:/u:Tr0ub4dor&3@h",
    ],
)
def test_a_url_that_is_none_keeps_its_password_all_the_same(text: str) -> None:
    assert "Tr0ub" not in redact(text)
    assert "Tr0ub" not in redact(f"thresher: sources.door.url: {text}: the URL is malformed")


def test_nothing_from_outside_steers_the_terminal() -> None:
    assert redact("\x1b]0;PWN\x07x\n\ty") == "]0;PWNx\n\ty"


def test_generations_and_places_are_no_passwords() -> None:
    for text in ("uncertified: people@2e0dfcfd: nobody", "c.yaml:3: sources.b.url: x", "people@1, moderation@2"):
        assert redact(text) == text
