"""The page's own figures for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pipeline.app.web.site import Site
from sources.webrtc_peers import publishing


class PageCollector(Collector):
    """Who listens, who was cut off, who publishes, who watches."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        feed = self._site.broadcast
        yield GaugeMetricFamily("thresher_web_feed_clients", "Who listens to the feed.", feed.listening)
        yield CounterMetricFamily(
            "thresher_web_feed_cut_off_clients", "Listeners that were cut off: they read nothing.", feed.cut_off
        )
        out = self._site.whep
        yield GaugeMetricFamily("thresher_whep_watchers", "Who watches over WebRTC.", out.watchers)
        yield GaugeMetricFamily(
            "thresher_whep_encoders", "Encoders at work, one for each view that is watched.", out.encoders
        )
        yield CounterMetricFamily("thresher_whep_encoded_pictures", "Pictures that were encoded.", out.encoded)
        published = GaugeMetricFamily(
            "thresher_whip_publishing", "1 while a browser or OBS publishes the stream.", labels=["stream"]
        )
        for stream, yes in publishing().items():
            published.add_metric([stream], float(yes))
        if published.samples:
            yield published
