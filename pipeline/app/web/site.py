"""What the routes share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from pipeline.app.config.document import Document
from pipeline.app.config.plan import Plan
from pipeline.app.config.settings import WebSettings
from pipeline.app.tracing import Tracing
from pipeline.app.web.broadcast import Broadcast
from pipeline.app.web.documents import snapshot_document
from pipeline.app.web.feed import Feed, FeedSink
from pipeline.app.web.promise import Promises
from pipeline.app.web.review import Reviews, gathering
from pipeline.core.contracts import Generation
from pipeline.engine.pipeline import Pipeline

FEED = "web"
"""The name of the sink through which the page hears."""


class Site:
    """Made before the pipeline, since it brings a sink of its own; `running` is there once the server is."""

    def __init__(
        self, settings: WebSettings, plan: Plan, generations: Mapping[str, Generation], document: Document
    ) -> None:
        self.settings = settings
        self.document = document
        self.generations = dict(generations)
        self.feed = Feed()
        self.broadcast = Broadcast(self.feed, lambda: snapshot_document(self.running.snapshot()))
        own = {**gathering(plan, generations), FEED: FeedSink.into(self.feed)}
        self.plan = replace(plan, sinks={**plan.sinks, **own})
        self.reviews = Reviews(self)
        self.promises = Promises(self)
        self.traces: Tracing | None = None
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
