"""What the routes share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from pipeline.app.config.document import Document
from pipeline.app.config.plan import Plan
from pipeline.app.config.settings import WebSettings
from pipeline.app.control import Control
from pipeline.app.tracing import Tracing
from pipeline.app.web.access import Access
from pipeline.app.web.broadcast import Broadcast
from pipeline.app.web.documents import snapshot_document
from pipeline.app.web.event_pictures import EventPictures, EventPictureSink
from pipeline.app.web.feed import Feed, FeedSink
from pipeline.app.web.gallery import Gallery, GallerySink
from pipeline.app.web.promise import Promises
from pipeline.app.web.review import Reviews, gathering
from pipeline.app.web.stills import Stills
from pipeline.app.web.store import Store
from pipeline.app.web.whep import Whep
from pipeline.core.contracts import Generation, Sink
from pipeline.engine.pipeline import Pipeline
from sinks.paths import expanded
from sinks.sqlite import Sqlite

FEED = "web:feed"
"""The name of the sink through which the page hears; no config can have one of that name."""
PICTURES = "web:events"
"""The name of the one that keeps a picture of each event."""
GALLERY = "web:pictures"
"""The name of the one through which it sees."""


class Site:
    """Made before the pipeline, since it brings a sink of its own; `running` is there once the server is."""

    def __init__(
        self, settings: WebSettings, plan: Plan, generations: Mapping[str, Generation], document: Document
    ) -> None:
        self.settings = settings
        self.document = document
        self.access = Access()
        self.feed = Feed()
        self.gallery = Gallery()
        self.stills = Stills()
        self.broadcast = Broadcast(self.feed, lambda: snapshot_document(self.running.snapshot()))
        own: dict[str, Sink] = {**gathering(plan, generations), FEED: FeedSink.into(self.feed)}
        own[GALLERY] = GallerySink.into(self.gallery)
        database = next((expanded(sink.path) for sink in plan.sinks.values() if isinstance(sink, Sqlite)), None)
        self.store = None if database is None else Store(database)
        """What the first `sqlite` sink keeps."""
        self.pictures = None if database is None else EventPictures(database.with_name(f"{database.stem}-events"))
        if self.pictures is not None:
            own[PICTURES] = EventPictureSink.into(self.pictures)
        self._plan, self._generations = replace(plan, sinks={**plan.sinks, **own}), dict(generations)
        self._control: Control | None = None
        self.reviews = Reviews(self)
        self.promises = Promises(self)
        self.traces: Tracing | None = None
        self._running: Pipeline | None = None
        self._whep: Whep | None = None

    @property
    def plan(self) -> Plan:
        """As it runs now."""
        return self._plan if self._control is None else self._control.plan

    @property
    def generations(self) -> Mapping[str, Generation]:
        """What judges now, by the names of cascades."""
        return self._generations if self._control is None else self._control.generations

    @property
    def control(self) -> Control:
        assert self._control is not None, "the server is started with the pipeline"
        return self._control

    @property
    def running(self) -> Pipeline:
        assert self._running is not None, "the server is started with the pipeline"
        return self._running

    @property
    def whep(self) -> Whep:
        assert self._whep is not None, "the server is started with the pipeline"
        return self._whep

    def shows(self, running: Pipeline) -> None:
        self._running = running
        self._whep = Whep(self.gallery, lambda stream: stream in running.states)
        self._control = Control(self.document, self._plan, self._generations, running)
        self.promises.start()

    def close(self) -> None:
        """Keep what is to be kept. Safe twice."""
        self.promises.close()
        self.reviews.close()
