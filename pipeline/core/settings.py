"""The base of everything a config file can say. An adapter *is* its settings: a frozen, picklable plan."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PositiveFloat

LONGEST_S = 1e6  # a time that somebody may mean: eleven days
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
"""A name that is safe in ids, file names, metric labels and topics."""

_LISTEN = re.compile(r"^(?P<host>[A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\]):(?P<port>\d{1,5})$")


def _port_alone(value: object) -> object:
    return f"127.0.0.1:{value}" if isinstance(value, int) or (isinstance(value, str) and value.isdigit()) else value


def _host_and_port(value: str) -> str:
    found = _LISTEN.match(value)
    if found is None or int(found["port"]) > 65535:
        raise ValueError(f'"{value}" should be host:port, like 127.0.0.1:9642')
    return value


Listen = Annotated[str, BeforeValidator(_port_alone), AfterValidator(_host_and_port)]
"""Where to answer: `host:port`; a port alone is one of this machine's own."""


def address(listen: str) -> tuple[str, int]:
    """A `Listen` as sockets take it."""
    host, _, port = listen.rpartition(":")
    return host.strip("[]"), int(port)


class Settings(BaseModel):
    """Frozen; an unknown key is a mistake."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, validate_default=True, hide_input_in_errors=True
    )


class GateChoice(Settings):
    """Which gate stands before the first queue, and how often it lets an unchanged scene through."""

    kind: str
    refresh_s: PositiveFloat = Field(
        default=10.0, le=LONGEST_S, description="judge an unchanged scene again after this many seconds"
    )


class StreamSettings(Settings):
    """What every source can be told, whatever it reads."""

    cascade: str | None = Field(default=None, description="which cascade judges it; needed where there are several")
    max_fps: float | None = Field(
        default=None, ge=0.001, le=100_000, description="judge at most this many frames a second of media time"
    )
    latency_budget_ms: PositiveFloat | None = Field(
        default=None,
        le=LONGEST_S * 1e3,
        description="a window without a verdict this long after its first packet is shed",
    )
    overflow: Literal["block", "drop_oldest"] | None = Field(
        default=None, description="when the pipeline is full: wait, or let the oldest go (default: live sources drop)"
    )
    in_flight: int | None = Field(
        default=None,
        ge=1,
        le=1024,
        description="windows of this stream inside the pipeline at once (default: 8 where frames are dropped, so that"
        " they are never old, and behind a gate; else 32)",
    )
    isolation: Literal["thread", "process"] = Field(default="thread", description="where it is decoded")
    gate: GateChoice | None = None
    refresh_s: PositiveFloat = Field(
        default=10.0, le=LONGEST_S, description="a frozen or black feed is judged again this often"
    )
    silence_s: PositiveFloat = Field(
        default=8.0, le=LONGEST_S, description="a live source that sends nothing for so long is opened again"
    )
