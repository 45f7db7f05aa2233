"""What a config may say of the page, and what it may not."""

from __future__ import annotations

from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from pipeline.app.cli import main
from pipeline.app.config.schema import json_schema
from pipeline.app.config.settings import WebSettings


@pytest.mark.parametrize(
    ("listen", "local"),
    [
        ("127.0.0.1:8642", True),
        ("127.9.9.9:1", True),
        ("[::1]:8642", True),
        ("[0:0:0:0:0:0:0:1]:8642", True),
        ("localhost:8642", True),
        ("LOCALHOST:8642", True),
        ("8642", True),
        ("0.0.0.0:8642", False),
        ("[::]:8642", False),
        ("192.0.2.1:8642", False),
        ("[2001:db8::1]:8642", False),
        ("127.evil.example:8642", False),
        ("localhost.evil.example:8642", False),
        ("cams:8642", False),
    ],
)
def test_any_address_but_this_machines_own_needs_a_token(listen: str, local: bool) -> None:
    assert WebSettings(listen=listen, operator="o" * 16).local == local
    if local:
        assert not WebSettings(listen=listen).guarded
    else:
        with pytest.raises(ValueError, match="give an `operator` token"):
            WebSettings(listen=listen)
        with pytest.raises(ValueError, match="give an `operator` token"):
            WebSettings(listen=listen, viewer="v" * 16)


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("operator: sh0rt-t0ken", "16 to 512 characters"),
        ("viewer: 'with a blank in it, though long'", "without blanks"),
        ("viewer: 'señales-y-milagros'", "letters, digits and signs of ASCII"),
        ("operator: 12345678901234567890", "put it in quotes"),
        ("operator: [s3cret-in-a-list]", "put it in quotes"),
        ("operator: one-and-the-same-0\n  viewer: one-and-the-same-0", "should differ"),
        ("hosts: ['http://cams.example/']", "should be a name alone"),
        ("hosts: ['*']", "should be a name alone"),
        ("origins: ['*']", "should be what a browser calls a site"),
        ("origins: [studio.example]", "should be what a browser calls a site"),
        ("origins: ['https://studio.example/path']", "should be what a browser calls a site"),
        ("changes_per_s: 0", "greater than or equal to 0.1"),
        ("listen: nowhere", "should be host:port"),
        ("listen: 0.0.0.0:8642", "give an `operator` token"),
        ("operater: x", "operator"),
    ],
)
def test_mistakes_are_told_and_no_token_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], written: str, says: str
) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(f"sources: {{a: {{kind: pattern}}}}\nweb:\n  {written}\n", encoding="utf-8")
    assert main(["validate", str(config)]) == 2
    said = capsys.readouterr().err
    assert says in said and "c.yaml:" in said and ": web" in said and "Traceback" not in said
    for secret in ("sh0rt", "blank in it", "milagros", "1234567890", "s3cret", "one-and-the-same"):
        assert secret not in said


def test_the_schema_knows_it() -> None:
    schema = Draft202012Validator(json_schema())
    good = {"sources": {"a": {"kind": "pattern"}}, "web": {"operator": "o" * 16, "hosts": ["a.example"]}}
    assert schema.is_valid(good)
    for wrong in ({"operator": "short"}, {"nonsense": 1}, {"open": "yes"}):
        assert not schema.is_valid({**good, "web": wrong})


def test_two_at_one_port(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("sources: {a: {kind: pattern}}\nmetrics: {listen: '8642'}\nweb: {}\n")
    assert main(["validate", str(config)]) == 2
    assert "`metrics` listens at port 8642 already" in capsys.readouterr().err
