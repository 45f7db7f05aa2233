from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from pipeline.core.errors import InputError, SinkBusy
from pipeline.core.letters import Letter, letter_of
from pipeline.core.reach import OutOfReachError
from sinks import postgres_hosts
from sinks.postgres import Postgres
from tests.contracts.names import leads
from tests.contracts.remote_suite import LETTERS, NUL, PinningSuite, deliver, many
from tests.contracts.sink_suite import event, person, result, ruling, shed
from tests.sinks.servers import Postgres as PostgresServer

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with PostgresServer() as running:
        yield running


def spelled(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: spelled(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [spelled(inner) for inner in value]
    if isinstance(value, str):
        return "".join(f"\\u{ord(c):04x}" if c == "\x00" or "\ud800" <= c <= "\udfff" else c for c in value)
    return value


class TestPostgres(PinningSuite):
    kind = "postgres"
    said_at = "dsn"
    secrets = (PostgresServer.password,)

    @pytest.fixture(autouse=True)
    def _server(self, server: PostgresServer) -> Iterator[None]:
        self.server: PostgresServer = server
        server.well()
        yield
        server.well()

    def plan(self, port: int | None = None) -> Postgres:
        return Postgres(dsn=self.server.dsn(port).replace("127.0.0.1", self.host), schema_name=self.space)

    def query(self, sql: str, *values: Any) -> list[dict[str, Any]]:
        with psycopg.connect(self.server.dsn(), row_factory=dict_row, options=f"-c search_path={self.space}") as reader:
            return reader.execute(sql.encode(), values).fetchall()

    def check(self, letters: Sequence[Letter]) -> None:
        """One row for each thing, with the last word on it."""
        expected: dict[str, dict[str, Any]] = {}
        for letter in letters:
            expected[f"{letter.kind} {letter.about}"] = spelled(letter.document)
        found = {}
        for kind in ("outcome", "event", "ruling", "audit", "outage"):
            table = "results" if kind == "outcome" else f"{kind}s"
            for row in self.query(f"SELECT * FROM {table}"):
                assert row["id"] in {row["document"].get(key) for key in ("id", "event", "ruling", "audit", "outage")}
                found[f"{kind} {row['id']}"] = row["document"]
        assert found == expected
        labels = [
            (document["id"], n, one["label"], one["score"])
            for document in expected.values()
            for n, one in enumerate(
                document.get("detections", ()) if document.get("outcome") and "id" in document else ()
            )
        ]
        rows = self.query("SELECT * FROM detections")
        assert sorted((row["result_id"], row["n"], row["label"], row["score"]) for row in rows) == sorted(labels)

    def poisoned(self) -> Letter:
        document = letter_of(result(77)).document | {"id": "door/e/bad", "seq": 1 << 70}
        return Letter("door/e/bad:1", "outcome", "door/e/bad", "door", json.dumps(document).encode())

    @pytest.mark.parametrize("body", [b"no json", b"[]", b"{}", b'{"outcome":"result"}', b"[" * 100_000])
    def test_what_is_no_document_is_refused(self, body: bytes) -> None:
        courier = self.connect()
        bad = Letter("bad", "outcome", "bad", "door", body)
        assert [name for name, _ in deliver(courier, [*many(3), bad, *many(3, 3)])] == ["bad"]
        courier.close()
        self.check(many(6))

    def test_an_end_stands_whatever_comes_again(self) -> None:
        courier = self.connect()
        for item in (event(), event("end", 50), event(), event("update", 30), event("update", 99)):
            deliver(courier, [letter_of(item)])
        for item in (ruling(), ruling("update", 4), ruling("end", 7), ruling(), ruling("update", 9)):
            deliver(courier, [letter_of(item)])
        self.check([letter_of(event("end", 50)), letter_of(ruling("end", 7))])
        deliver(courier, [letter_of(event("end", 40))])  # another run, another end
        self.check([letter_of(event("end", 40)), letter_of(ruling("end", 7))])
        courier.close()
        (row,) = self.query("SELECT * FROM events")
        assert (row["open"], row["windows"], row["label"], row["best_score"]) == (False, 41, "person", 0.97)

    def test_an_older_update_replaces_no_newer_one(self) -> None:
        courier = self.connect()
        for item in (event(), event("update", 30), event("update", 20), event()):
            deliver(courier, [letter_of(item)])
        courier.close()
        self.check([letter_of(event("update", 30))])

    def test_no_verdict_is_lost_to_a_window_that_got_none(self) -> None:
        courier = self.connect()
        deliver(courier, [letter_of(item) for item in (result(5, person()), shed(6), shed(5), result(6, person()))])
        courier.close()
        self.check([letter_of(result(5, person())), letter_of(result(6, person()))])

    def test_a_ruling_keeps_what_it_was_decided_by(self) -> None:
        courier = self.connect()
        deliver(courier, [letter_of(ruling()), letter_of(ruling("update", 5))])
        courier.close()
        (row,) = self.query("SELECT * FROM rulings")
        assert (row["latency_ms"], row["seconds"], row["open"]) == (12.5, 5.0, True)
        assert row["evidence"][0]["window"] == "chat/01K0EPOCH/7"
        assert (row["targets"], row["missing"]) == (["chat", "door"], ["door.sound"])

    def test_nul_is_spelled_out(self) -> None:
        courier = self.connect()
        deliver(courier, [letter_of(NUL)])
        courier.close()
        (row,) = self.query("SELECT reason, document->>'reason' AS again FROM results")
        assert row["reason"] == row["again"] == "the camera said \\u0000\\u0000\\u0000 and \\ud800\n"

    def test_times_are_times_and_views_answer(self) -> None:
        courier = self.connect()
        deliver(courier, LETTERS)
        courier.close()
        (row,) = self.query("SELECT min(time) AS first, max(time) - min(time) AS span FROM results")
        assert row["first"].isoformat() == "2026-01-31T12:00:00+00:00" and row["span"].total_seconds() == 0.4
        (outage,) = self.query("SELECT end_time - start_time AS lasted, seconds FROM outages")
        assert outage["lasted"].total_seconds() == outage["seconds"] == 12.345
        flagged = self.query("SELECT id, labels FROM flagged_results ORDER BY time")
        assert flagged[0] == {"id": "door/01K0EPOCH/1", "labels": ["person"]}
        shares = self.query("SELECT stream, sum(share) AS whole FROM verdict_share GROUP BY stream")
        assert {row["whole"] for row in shares} == {1}
        for view in ("events_by_label", "labels_per_minute", "decided_by_share"):
            assert self.query(f"SELECT * FROM {view}")

    def test_several_make_the_tables_at_once(self) -> None:
        couriers = [self.connect() for _ in range(6)]
        failed: list[Exception] = []

        def send(courier: Any, n: int) -> None:
            try:
                assert courier.send(many(1, n)) == 1  # without a second try
            except Exception as error:  # noqa: BLE001 (whatever it is, it is shown)
                failed.append(error)

        threads = [threading.Thread(target=send, args=(courier, n)) for n, courier in enumerate(couriers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for courier in couriers:
            courier.close()
        assert failed == []
        self.check(many(6))

    def test_who_may_only_write_can_do_so_once_the_tables_are_there(self) -> None:
        self.connect_and_send(self.plan(), many(1))
        with psycopg.connect(self.server.dsn()) as owner:
            owner.execute(f"CREATE ROLE {self.space} LOGIN PASSWORD 'wr1t3r'".encode())
            owner.execute(f"GRANT USAGE ON SCHEMA {self.space} TO {self.space}".encode())
            tables = f"ALL TABLES IN SCHEMA {self.space} TO {self.space}"
            owner.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {tables}".encode())
        dsn = f"host=127.0.0.1 port={self.server.port} dbname=postgres user={self.space} password=wr1t3r"
        self.connect_and_send(Postgres(dsn=dsn, schema_name=self.space), many(3))
        self.check(many(3))

    def connect_and_send(self, plan: Postgres, letters: Sequence[Letter]) -> None:
        courier = plan.connect("out")
        deliver(courier, letters)
        courier.close()

    def test_a_table_that_was_dropped_is_made_again_and_one_of_somebody_else_is_said(self) -> None:
        courier = self.connect()
        deliver(courier, many(3))
        self.statement(f"DROP SCHEMA {self.space} CASCADE")
        deliver(courier, many(3))
        self.check(many(3))
        self.statement(f"DROP SCHEMA {self.space} CASCADE; CREATE SCHEMA {self.space};")
        self.statement(f"CREATE TABLE {self.space}.results (mine int)")
        with pytest.raises(SinkBusy):
            courier.send(many(3))
        with pytest.raises(SinkBusy, match='column "stream" does not exist'):
            courier.send(many(3))
        courier.close()

    def statement(self, sql: str) -> None:
        with psycopg.connect(self.server.dsn()) as owner:
            owner.execute(sql.encode())

    def test_a_table_that_is_locked_is_busy_in_time(self) -> None:
        courier = self.connect()
        deliver(courier, many(3))
        with psycopg.connect(self.server.dsn()) as other:
            other.execute(f"LOCK TABLE {self.space}.results".encode())
            self.busy_in_time(courier)
        deliver(courier, many(6))
        courier.close()
        self.check(many(6))

    def test_a_wrong_password_is_busy_and_not_told(self) -> None:
        dsn = self.server.dsn().replace(self.server.password, "wr0ngpw")
        courier = Postgres(dsn=dsn).connect("out")
        with pytest.raises(SinkBusy, match="password authentication failed") as caught:
            courier.send(many(1))
        courier.close()
        assert "wr0ngpw" not in str(caught.value)


@pytest.mark.parametrize(
    "dsn",
    [
        *("nonsense s3cr3t", "postgresql://u:s3cr3t@[host/", "host=a s3cr3t=b", "postgresql://u:p@s3cr3t@h/db"),
        *("postgresql://u:s3cr3t@h:65536/d", "postgresql://u:s3cr3t@h:x/d", "host=a,b port=1,0 password=s3cr3t"),
        *("postgresql://u:s3cr3t@h/d?sslmode=no", "host=h sslmode=s3cr3t"),
    ],
)
def test_mistakes_are_named_without_what_is_secret(dsn: str) -> None:
    with pytest.raises(InputError) as caught:
        Postgres(dsn=dsn).check()
    assert caught.value.place == "dsn" and "s3cr3t" not in str(caught.value)


def test_a_password_among_words_is_remembered() -> None:
    from pipeline.core.secrets import redact

    Postgres(dsn="host=x password='it is s3cr3t' user=y")
    Postgres(dsn="host=x password=bar3w0rd user=y")
    assert redact("it is s3cr3t, bar3w0rd") == "***, ***"


SERVICES = """[far]
host=db.test
port=77
[astray]
hostaddr=169.254.169.254
"""


class TestHosts:
    """Which addresses a connection goes to, whoever names them."""

    @pytest.fixture(autouse=True)
    def _names(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        for name in [name for name in os.environ if name.startswith("PG")]:
            monkeypatch.delenv(name)
        (tmp_path / "services").write_text(SERVICES)
        monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
        leads(monkeypatch, "db.test", "10.0.0.7", "10.0.0.8")
        leads(monkeypatch, "astray.test", "169.254.169.254")
        leads(monkeypatch, "mixed.test", "169.254.169.254", "10.0.0.9")

    @pytest.mark.parametrize(
        ("dsn", "host", "hostaddr", "port"),
        [
            ("postgresql://u:p@db.test/d", "db.test,db.test", "10.0.0.7,10.0.0.8", "5432,5432"),
            ("postgresql://u@[::1]:5433,mixed.test/d", "::1,mixed.test", "::1,10.0.0.9", "5433,"),
            ("host=mixed.test,/tmp,10.0.0.1 port=1,2,3", "mixed.test,/tmp,10.0.0.1", "10.0.0.9,,10.0.0.1", "1,2,3"),
            ("host=db.test hostaddr=10.0.0.5 sslmode=verify-full", "db.test", "10.0.0.5", "5432"),
            ("hostaddr=10.0.0.5,10.0.0.6 port=6432", "10.0.0.5,10.0.0.6", "10.0.0.5,10.0.0.6", "6432,6432"),
            ("service=far", "db.test,db.test", "10.0.0.7,10.0.0.8", "77,77"),
            ("host=/run/postgresql", "/run/postgresql", "", "5432"),
            ("host=astray.test,mixed.test", "mixed.test", "10.0.0.9", "5432"),
        ],
    )
    def test_they_are_pinned(self, dsn: str, host: str, hostaddr: str, port: str) -> None:
        postgres_hosts.check(dsn)
        assert postgres_hosts.pinned(dsn) == {"host": host, "hostaddr": hostaddr, "port": port}

    @pytest.mark.parametrize(
        "dsn", ["", "dbname=d", "host=a,b port=1,2,3", "host=a hostaddr=10.0.0.1,10.0.0.2", "service=no"]
    )
    def test_what_leads_to_no_network_or_nowhere_stays_as_it_is(self, dsn: str) -> None:
        assert postgres_hosts.pinned(dsn) == {}

    @pytest.mark.parametrize(
        "dsn",
        [
            "host=169.254.169.254",
            "hostaddr=169.254.1.1 host=db.test",
            "host=10.0.0.1,fe80::1",
            "host=2852039166",
            "service=astray",
        ],
    )
    def test_what_nobody_may_reach_is_a_mistake(self, dsn: str) -> None:
        with pytest.raises(InputError) as caught:
            Postgres(dsn=dsn).check()
        assert caught.value.place == "dsn"
        if "," not in dsn:  # else those that may be reached are left
            with pytest.raises(OutOfReachError):
                postgres_hosts.pinned(dsn)

    def test_the_environment_is_looked_at_like_the_rest(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PGHOST", "db.test")
        assert postgres_hosts.pinned("port=1")["hostaddr"] == "10.0.0.7,10.0.0.8"
        monkeypatch.setenv("PGHOSTADDR", "169.254.169.254")
        with pytest.raises(OutOfReachError):
            postgres_hosts.pinned("port=1")

    def test_a_socket_of_this_machine_works_still(self, server: PostgresServer) -> None:
        dsn = f"host={server.folder} port={server.port} user={server.user} password={server.password} dbname=postgres"
        courier = Postgres(dsn=dsn, schema_name="near").connect("out")
        assert courier.send(many(3)) == 3
        courier.close()
