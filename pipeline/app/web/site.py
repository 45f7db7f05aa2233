"""What the routes share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from pipeline.app.config.document import Document
from pipeline.app.config.plan import Plan
from pipeline.app.config.settings import WebSettings
from pipeline.app.web.access import Access
from pipeline.app.web.broadcast import Broadcast
from pipeline.app.web.documents import snapshot_document
from pipeline.app.web.event_pictures import EventPictures, EventPictureSink
from pipeline.app.web.feed import Feed, FeedSink
from pipeline.app.web.promise import Promises
from pipeline.app.web.review import Reviews, gathering
from pipeline.app.web.store import Store
from pipeline.core.contracts import Generation, Sink
from pipeline.engine.pipeline import Pipeline
from sinks.paths import expanded
from sinks.sqlite import Sqlite

FEED = "web:feed"
"""The name of the sink through which the page hears; no config can have one of that name."""
PICTURES = "web:events"
"""The name of the one that keeps a picture of each event."""


class Site:
    """Made before the pipeline, since it brings a sink of its own; `running` is there once the server is."""

    def __init__(
        self, settings: WebSettings, plan: Plan, generations: Mapping[str, Generation], document: Document
    ) -> None:
        self.settings = settings
        self.document = document
        self.generations = dict(generations)
        self.access = Access()
        self.feed = Feed()
        self.broadcast = Broadcast(self.feed, lambda: snapshot_document(self.running.snapshot()))
        own: dict[str, Sink] = {**gathering(plan, generations), FEED: FeedSink.into(self.feed)}
        database = next((expanded(sink.path) for sink in plan.sinks.values() if isinstance(sink, Sqlite)), None)
        self.store = None if database is None else Store(database)
        """What the first `sqlite` sink keeps."""
        self.pictures = None if database is None else EventPictures(database.with_name(f"{database.stem}-events"))
        if self.pictures is not None:
            own[PICTURES] = EventPictureSink.into(self.pictures)
        self.plan = replace(plan, sinks={**plan.sinks, **own})
        self.reviews = Reviews(self)
        self.promises = Promises(self)
        self._running: Pipeline | None = None

    @property
    def running(self) -> Pipeline:
        assert self._running is not None, "the server is started with the pipeline"
        return self._running

    def shows(self, running: Pipeline) -> None:
        self._running = running
        self.promises.start()

    def close(self) -> None:
        """Keep what is to be kept. Safe twice."""
        self.promises.close()
        self.reviews.close()
