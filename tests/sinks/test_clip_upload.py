"""Copies of clips in a real S3-compatible server (moto's, over HTTP)."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from minio import Minio
from moto.server import ThreadedMotoServer
from pydantic import ValidationError
from urllib3.exceptions import HTTPError

from pipeline.core.errors import InputError, MissingPart
from pipeline.core.secrets import redact
from sinks.clip import Clip
from sinks.clip_store import connections
from sinks.clip_upload import S3
from sources.file import File
from tests.contracts.names import certificate, leads
from tests.sinks.clip_parts import clips, make_film
from tests.sinks.test_clip import run
from tests.sinks.test_webhook import answering

SECRET = "s3cret-planted-key"


class Store:
    """A server that can be stopped, and what lies in its bucket."""

    def __init__(self, port: int) -> None:
        self._server = ThreadedMotoServer("127.0.0.1", port=port, verbose=False)
        self._server.start()
        self.port = self._server.get_host_and_port()[1]
        self.client: Any = Minio(
            endpoint=f"127.0.0.1:{self.port}", access_key="key", secret_key=SECRET, secure=False, region="us-east-1"
        )

    def objects(self) -> set[str]:
        return {one.object_name for one in self.client.list_objects("evidence", recursive=True)}

    def stop(self) -> None:
        self._server.stop()


@pytest.fixture
def store() -> Iterator[Store]:
    started = Store(0)
    started.client.make_bucket("evidence")
    yield started
    started.stop()


def plan(folder: Path, port: int) -> Clip:
    s3 = S3(
        bucket="evidence",
        endpoint=f"http://127.0.0.1:{port}",
        prefix="site-7/",
        region="us-east-1",
        access_key="key",
        secret_key=SECRET,
    )
    return Clip(path=str(folder), before_s=1, after_s=1, s3=s3)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_film(tmp_path_factory.mktemp("film") / "film.mp4", 8, [(2.0, 3.0), (5.5, 6.0)])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.slow
def test_each_clip_has_a_copy(film: Path, tmp_path: Path, store: Store) -> None:
    run(File(path=film), plan(tmp_path, store.port))
    made = clips(tmp_path)
    assert len(made) == 2
    assert store.objects() == {f"site-7/door/{path.name}{end}" for path in made for end in ("", ".json")}
    for path in made:
        answer = store.client.get_object("evidence", f"site-7/door/{path.name}")
        assert answer.read() == path.read_bytes()
        assert answer.headers["content-type"] == "video/mp4"
        answer.close()


@pytest.mark.slow
def test_what_did_not_arrive_is_sent_by_the_next_run(
    film: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    port = free_port()
    with caplog.at_level(logging.WARNING):
        run(File(path=film), plan(tmp_path, port))
    said = "\n".join(record.getMessage() for record in caplog.records)
    assert "clips wait for the bucket evidence" in said and "the next run sends them" in said
    assert SECRET not in said and SECRET not in redact(plan(tmp_path, port))
    assert len(clips(tmp_path)) == 2
    store = Store(port)
    try:
        store.client.make_bucket("evidence")
        writer = plan(tmp_path, port).open()
        end = time.monotonic() + 30
        while len(store.objects()) < 4:
            assert time.monotonic() < end
            time.sleep(0.1)
        writer.close()
    finally:
        store.stop()
    assert len(list(tmp_path.glob("*/*.sent"))) == 2


@pytest.mark.parametrize("endpoint", ["s3.example.org", "ftp://h", "http://h:port", "http://u:p@h", "https://h/bucket"])
def test_an_endpoint_is_a_server(endpoint: str) -> None:
    with pytest.raises(ValidationError, match="should be http"):
        S3(bucket="evidence", endpoint=endpoint, access_key="k", secret_key="s")


@pytest.mark.parametrize("bucket", ["", "b", "A B", "a/b", "-ab", "x" * 64])
def test_a_bucket_has_a_name(bucket: str) -> None:
    with pytest.raises(ValidationError, match="3 to 63 letters"):
        S3(bucket=bucket, access_key="a", secret_key="s3cr3t")


def test_uploading_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(MissingPart, match=r"pip install 'thresher\[s3\]'"):
        plan(tmp_path, 1).check()


def test_an_address_that_nobody_may_reach_is_a_mistake(tmp_path: Path) -> None:
    s3 = S3(bucket="evidence", endpoint="http://169.254.169.254", access_key="k", secret_key="s")
    with pytest.raises(InputError, match="link-local") as caught:
        Clip(path=str(tmp_path), s3=s3).check()
    assert caught.value.place == "s3.endpoint"


def test_a_store_is_connected_to_where_its_name_led_and_nowhere_else(
    monkeypatch: pytest.MonkeyPatch, store: Store
) -> None:
    leads(monkeypatch, "store.test", "169.254.169.254", "127.0.0.1")
    leads(monkeypatch, "astray.test", "169.254.169.254")
    pools = connections(5.0)
    assert pools.request("GET", f"http://store.test:{store.port}/moto-api/").status == 200
    for scheme in ("http", "https"):
        with pytest.raises(HTTPError, match="link-local"):
            pools.request("GET", f"{scheme}://astray.test:{store.port}/")


def test_over_tls_it_is_called_by_its_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pair = certificate(tmp_path, "store.test")
    for name in ("store.test", "another.test"):
        leads(monkeypatch, name, "127.0.0.1")
    with answering(lambda *_: (204, {}, b""), pair.context()) as url:
        pools = connections(5.0)
        pools.connection_pool_kw["ca_certs"] = str(pair.file)
        assert pools.request("POST", url.replace("127.0.0.1", "store.test"), body=b"x").status == 204
        with pytest.raises(HTTPError, match=r"another\.test"):
            pools.request("POST", url.replace("127.0.0.1", "another.test"), body=b"x")
