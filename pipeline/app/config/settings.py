"""The parts of a config that belong to no adapter."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, model_validator

from pipeline.core.secrets import remember
from pipeline.core.settings import Listen, Settings, address

STATE = (
    "a folder where it is kept how far each stream was delivered for good: a restart goes on from there. A sink that"
    " does not wait for the disk (jsonl without `sync: batch`) outlives the death of the program, not a loss of power"
    " (default: none, every run begins at the beginning)"
)


OPEN_KINDS = ("rtsp", "webrtc", "webcam", "microphone", "irc", "websocket", "pattern")
"""Sources that read devices or the network (as far as `network` lets them), and no file."""
FILE_KINDS = ("file", "folder", "sound", "lines", "pcm", "line")


class MetricsSettings(Settings):
    """Where Prometheus may ask how the pipeline is doing."""

    listen: Listen = Field(
        default="127.0.0.1:9642",
        description="host:port of the endpoint; it answers anybody who can reach it, so stay local",
    )

    @property
    def address(self) -> tuple[str, int]:
        return address(self.listen)


_SHORTEST_TOKEN = 16
_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?")
_ORIGIN = re.compile(rf"https?://(?:{_HOST.pattern}|\[[0-9A-Fa-f:]+\])(?::\d{{1,5}})?")


def _text(value: object) -> object:
    """Pydantic's own words would show what was given."""
    if not isinstance(value, str):
        raise ValueError("should be a text: put it in quotes")
    remember(value)
    return value


def _token(value: str) -> str:
    if len(value) < _SHORTEST_TOKEN or len(value) > 512:
        raise ValueError(f"should have {_SHORTEST_TOKEN} to 512 characters: `openssl rand -hex 16` makes one")
    if not all("!" <= sign <= "~" for sign in value):
        raise ValueError("should be of letters, digits and signs of ASCII, without blanks")
    return value


Token = Annotated[
    str, BeforeValidator(_text), AfterValidator(_token), Field(json_schema_extra={"minLength": _SHORTEST_TOKEN})
]
"""What somebody says to be let in. Shown nowhere, not even where it is wrong."""


def _host(value: str) -> str:
    if _HOST.fullmatch(value) is None:
        raise ValueError(f'"{value}" should be a name alone, like cameras.example.org')
    return value.lower()


def _origin(value: str) -> str:
    if _ORIGIN.fullmatch(value) is None:
        raise ValueError(f'"{value}" should be what a browser calls a site, like https://example.org')
    return value.lower()


class WebSettings(Settings):
    """The page, and the interface for programs behind it."""

    listen: Listen = Field(
        default="127.0.0.1:8642",
        description="host:port; any address but this machine's own needs an `operator` token, and is best given a"
        " `certificate`",
    )
    operator: Token | None = Field(
        default=None, description="who says this token may change what runs, as well as look"
    )
    viewer: Token | None = Field(default=None, description="who says this token may look")
    certificate: str | None = Field(default=None, min_length=1, description="TLS: the chain, as a PEM file")
    key: str | None = Field(default=None, min_length=1, description="TLS: its private key, as a PEM file")
    open: bool = Field(default=True, description="show the page in a browser, where a person sits in front")
    scores: dict[str, str] = Field(
        default_factory=dict,
        description="cascade → the file of scores (of `thresher calibrate` or `thresher eval`) that its slider replays"
        " (default: the one beside its certificate)",
    )
    review: bool = Field(
        default=True,
        description="gather pictures that are in doubt for the page, where no `doubts` sink does; with"
        " `review_text` messages, too",
    )
    review_text: bool = Field(
        default=False, description="keep messages that are in doubt, as they were said, to be labelled on the page"
    )
    hosts: tuple[Annotated[str, AfterValidator(_host)], ...] = Field(
        default=(),
        max_length=32,
        description="further names that it is asked for by, as by a reverse proxy on this machine, whose word on who"
        " asks is then taken (X-Forwarded-For, X-Forwarded-Proto)",
    )
    origins: tuple[Annotated[str, AfterValidator(_origin)], ...] = Field(
        default=(), max_length=32, description="sites whose pages may publish and watch here by WHIP and WHEP"
    )
    changes_per_s: float = Field(
        default=20.0,
        ge=0.1,
        le=100_000,
        description="how often an address may change something or open a WebRTC connection, in the long run; three"
        " seconds' worth at once",
    )

    stay: bool | None = Field(
        default=None,
        description="go on when every source has ended, so that all can be looked at, until Ctrl-C or `--for`"
        " (default: where standard output is a terminal)",
    )
    keep: str | None = Field(
        default=None,
        min_length=1,
        description="a file: what is added, changed and removed here is written there, and is so again after a restart,"
        " where the config says of that stream what it said then",
    )
    kinds: tuple[str, ...] = Field(
        default=OPEN_KINDS,
        description="the kinds of source that may be added or changed here; what listens may do so at this machine's"
        " own addresses only",
    )
    files: tuple[str, ...] = Field(
        default=(),
        description="folders: what lies in them may be read by sources that are added here (kinds"
        f" {', '.join(FILE_KINDS)}). Default: none, or whoever may add a stream could read any file of this machine",
    )
    references: tuple[str, ...] = Field(
        default=(),
        description="names of the environment that a source which is added here may use as ${NAME}. Default: none, or"
        " whoever may add a stream could have any secret sent anywhere",
    )

    @property
    def address(self) -> tuple[str, int]:
        return address(self.listen)

    @property
    def local(self) -> bool:
        """Whether only this machine can reach it."""
        host = self.address[0].lower()
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"

    @property
    def guarded(self) -> bool:
        """Whether it takes a token to get in."""
        return self.operator is not None or self.viewer is not None

    @model_validator(mode="after")
    def _is_guarded(self) -> Self:
        if self.operator is not None and self.operator == self.viewer:
            raise ValueError("`operator` and `viewer` should differ, or whoever looks may change everything")
        if not self.local and self.operator is None:
            raise ValueError(
                f"whoever reaches {self.listen} could change what runs: give an `operator` token, like"
                ' operator: "${THRESHER_OPERATOR}", or listen at 127.0.0.1'
            )
        if (self.certificate is None) != (self.key is None):
            raise ValueError("`certificate` and `key` go together")
        return self


class CascadeSections(Settings):
    """A cascade as it is written: which models, and the rule that holds the thresholds."""

    base: str | None = Field(default=None, description="a shipped cascade that this one starts from")
    about: str = Field(default="", description="one sentence on what it finds, and what is known of its errors")
    cheap: dict[str, Any] = Field(description="the model that sees every window")
    heavy: dict[str, Any] | None = Field(default=None, description="the model that sees what the rule escalates")
    rule: dict[str, Any] | None = Field(
        default=None, description="what the scores mean; left out, every label of the model is reported from 0.5 on"
    )
    certificate: str | None = Field(
        default=None,
        description="the file that `thresher calibrate` made for this cascade: its thresholds are used, and every"
        " result says `certified: true`",
    )
    audit: dict[str, Any] | None = Field(
        default=None,
        description="have the heavy model look again at a share of the windows while it runs, and prove what is missed",
    )
    cache: int | None = Field(
        default=None,
        ge=0,
        le=10_000_000,
        description="verdicts that are kept for messages that say the same again, 0 for none (default: 10000 of text)",
    )


class ConfigSections(BaseModel):
    """The top level of a config."""

    sources: dict[str, dict[str, Any]] = Field(default_factory=dict, description="the streams, each by its name")
    cascade: str | dict[str, Any] | None = Field(
        default=None, description="the cascade of every source that names no other"
    )
    cascades: dict[str, dict[str, Any]] = Field(default_factory=dict, description="cascades by name")
    events: dict[str, Any] | None = Field(default=None, description="when something seen becomes an event")
    policy: dict[str, Any] | None = Field(
        default=None, description="what is to be done about what the streams report, alone and together"
    )
    sinks: dict[str, dict[str, Any] | None] | None = Field(
        default=None, description="where results go, each by its name"
    )
    metrics: dict[str, Any] | None = Field(default=None, description="a Prometheus endpoint; off unless it is named")
    web: dict[str, Any] | None = Field(
        default=None,
        description="the page and its interface for programs; off unless it is named, or asked for by --web",
    )
    trace: dict[str, Any] | None = Field(
        default=None, description="OpenTelemetry traces of a share of the windows; off unless it is named"
    )
    state: str | None = Field(default=None, min_length=1, description=STATE)
    network: dict[str, Any] | None = Field(default=None, description="where this program may connect to")


SECTIONS = tuple(ConfigSections.model_fields)
