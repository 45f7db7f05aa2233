"""Kills a run at random while its results flow to SQLite, a webhook, Kafka and MQTT; then asks each what it has.

    python -m tests.durability --kills 200

The run judges a file of messages with a real cascade and resumes after each death. What a receiver has is counted by
the results' ids: `lost` were judged and never came, `doubled` came twice under different message ids, so that a
receiver which leaves a known id aside would keep both; `repeats` came again under the same one, as may happen.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.durability.receivers import Broker, Bus, Hook, Receiver

ROOT = Path(__file__).parents[2]
_LINES_A_KILL = 700
_STARTS_S = 60.0
_ENDS_S = 1200.0


@dataclass
class Account:
    """What one receiver has of the results."""

    expected: int
    got: int = 0
    lost: int = 0
    doubled: int = 0
    repeats: int = 0
    out_of_order: int = 0


@dataclass
class Findings:
    kills: int
    before_the_first_result: int
    seconds: float
    receivers: dict[str, Account] = field(default_factory=dict)

    @property
    def clean(self) -> bool:
        return all(not (one.lost or one.doubled or one.out_of_order) for one in self.receivers.values())

    def document(self) -> dict[str, Any]:
        return asdict(self) | {"clean": self.clean}


def kill_again_and_again(folder: Path, kills: int, seed: int = 0) -> Findings:
    chance = random.Random(seed)
    begun = time.monotonic()
    killed = early = 0
    with ExitStack() as stack:
        hook = stack.enter_context(Hook())
        receivers: dict[str, Receiver] = {
            "webhook": hook,
            "kafka": stack.enter_context(Bus()),
            "mqtt": stack.enter_context(Broker()),
        }
        config = _config(folder, kills, receivers)
        while killed < kills:
            before = hook.count()
            with _started(config, folder) as run:
                if chance.random() < 0.15:  # while it starts
                    time.sleep(chance.uniform(0.0, 1.5))
                else:
                    _until_results(run, hook, before)
                    time.sleep(chance.expovariate(2.0))
                if run.poll() is not None:
                    break  # it had done all of it
                early += hook.count() == before
                os.killpg(run.pid, signal.SIGKILL)
                killed += 1
        with _started(config, folder) as run:
            assert run.wait(_ENDS_S) == 0, (folder / "log").read_text()[-3000:]
        expected = _ids_of_the_file(folder)
        accounts = {"sqlite": _in_sqlite(folder / "results.db", expected)}
        accounts |= {name: account(expected, one.results()) for name, one in receivers.items()}
    return Findings(killed, early, round(time.monotonic() - begun, 1), accounts)


def _config(folder: Path, kills: int, receivers: dict[str, Receiver]) -> Path:
    lines = folder / "messages.txt"
    lines.write_text("".join(f"message {n}, and nobody minds\n" for n in range(kills * _LINES_A_KILL)))
    config = folder / "run.json"  # which is YAML, too
    config.write_text(
        json.dumps(
            {
                "state": str(folder / "state"),
                "network": {"private": True},
                "sources": {"chat": {"kind": "lines", "path": str(lines)}},
                "cascade": "chat",
                "sinks": {
                    "sqlite": {"kind": "sqlite", "path": str(folder / "results.db")},
                    **{
                        name: one.settings() | {"outbox": {"path": str(folder / "outbox" / name)}}
                        for name, one in receivers.items()
                    },
                },
            }
        )
    )
    return config.rename(config.with_suffix(".yaml"))


def _started(config: Path, folder: Path) -> subprocess.Popen[bytes]:
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "pipeline.app.cli", "run", str(config)],
            stdout=log, stderr=log, cwd=ROOT, start_new_session=True,
        )  # fmt: skip


def _until_results(run: subprocess.Popen[bytes], hook: Hook, before: int) -> None:
    end = time.monotonic() + _STARTS_S
    while hook.count() == before and run.poll() is None:
        assert time.monotonic() < end, "no result came"
        time.sleep(0.01)


def _ids_of_the_file(folder: Path) -> list[str]:
    """Every line is a window, and a file's windows are named after what it holds."""
    from sources.file import content_digest

    path = folder / "messages.txt"
    epoch = content_digest(path)
    with path.open() as lines:
        return [f"chat/{epoch}/{seq}" for seq, _ in enumerate(lines)]


def _in_sqlite(path: Path, expected: list[str]) -> Account:
    with closing(sqlite3.connect(path)) as connection:
        found = [name for (name,) in connection.execute("SELECT id FROM results ORDER BY seq")]
    return account(expected, ((name, name) for name in found))


def account(expected: list[str], came: Iterator[tuple[str, str]]) -> Account:
    """`came` are message ids and result ids in the order of their arrival."""
    said = Account(len(expected))
    times: Counter[str] = Counter()
    messages: dict[str, set[str]] = {}
    furthest = -1
    for message, result in came:
        times[message] += 1
        if result not in messages:
            seq = int(result.rpartition("/")[2])
            said.out_of_order += seq < furthest
            furthest = max(furthest, seq)
        messages.setdefault(result, set()).add(message)
    wanted = set(expected)
    said.got = len(wanted & messages.keys())
    said.lost = len(wanted - messages.keys())
    said.doubled = sum(len(known) - 1 for known in messages.values()) + len(messages.keys() - wanted)
    said.repeats = sum(times.values()) - len(times)
    return said
