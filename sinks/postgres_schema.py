"""The tables in PostgreSQL: those of the SQLite sink, with times that are times, and the whole document beside them."""

from __future__ import annotations

from typing import Final

TABLES: Final = ("results", "detections", "events", "rulings", "audits", "outages")

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS {s}.results (            -- one row a window: its verdict, or why it has none
    id           text PRIMARY KEY,    -- stream/epoch/seq
    stream       text NOT NULL,
    epoch        text NOT NULL,
    seq          bigint NOT NULL,
    pts_s        double precision NOT NULL,     -- media time at which it begins
    time         timestamptz NOT NULL,          -- when its first packet arrived, of sound its newest sample's
    outcome      text NOT NULL,       -- result, shed, failed
    verdict      text NOT NULL,       -- accept, reject, unknown
    flagged      boolean NOT NULL,    -- something to act on
    decided_by   text,                -- stage, gate or feed state
    generation   text,
    certified    boolean,
    latency_ms   double precision NOT NULL,
    reason       text,                -- of shed and failed
    carried_from text,                -- the window whose verdict this one repeats
    file         text,                -- the picture's name, where each has one of its own
    action       text,                -- what this window alone calls for, under a policy
    rule         text,                -- the one that says so
    document     jsonb NOT NULL
);
CREATE INDEX IF NOT EXISTS results_by_stream ON {s}.results (stream, time);
CREATE INDEX IF NOT EXISTS results_by_time ON {s}.results (time);
CREATE INDEX IF NOT EXISTS results_flagged ON {s}.results (time) WHERE flagged;

CREATE TABLE IF NOT EXISTS {s}.detections (
    result_id text NOT NULL REFERENCES {s}.results (id) ON DELETE CASCADE,
    n         integer NOT NULL,       -- its place within the result
    label     text NOT NULL,
    score     double precision NOT NULL,
    -- where it is, NULL where nobody says so; nowhere at all: the whole window
    x1 double precision, y1 double precision, x2 double precision, y2 double precision,   -- source pixels
    start_ns bigint, end_ns bigint,             -- media time of a sound
    first_char integer, last_char integer,      -- characters of a message, half-open: the last is behind them
    PRIMARY KEY (result_id, n)
);
CREATE INDEX IF NOT EXISTS detections_by_label ON {s}.detections (label, score);

CREATE TABLE IF NOT EXISTS {s}.events (             -- one row an event, kept up to date while it lasts
    id         text PRIMARY KEY,
    stream     text NOT NULL,
    label      text NOT NULL,
    start_time timestamptz NOT NULL,
    end_time   timestamptz NOT NULL,  -- so far, while it is open
    seconds    double precision NOT NULL,       -- of media time
    count      integer NOT NULL,      -- the most of them at once
    windows    bigint NOT NULL,
    open       boolean NOT NULL,
    best_score double precision NOT NULL,
    document   jsonb NOT NULL
);
CREATE INDEX IF NOT EXISTS events_by_stream ON {s}.events (stream, start_time);
CREATE INDEX IF NOT EXISTS events_by_time ON {s}.events (start_time);

CREATE TABLE IF NOT EXISTS {s}.rulings (            -- one row an action of a policy, kept up to date while it lasts
    id         text PRIMARY KEY,
    show       text NOT NULL,
    action     text NOT NULL,
    rule       text NOT NULL,
    targets    text[] NOT NULL,       -- the streams
    start_time timestamptz NOT NULL,
    end_time   timestamptz NOT NULL,  -- not before that, while it is open
    seconds    double precision NOT NULL,
    open       boolean NOT NULL,
    latency_ms double precision,      -- from the newest arrival that contributed to the decision
    evidence   jsonb,                 -- what it was decided by: windows, labels, scores, thresholds, models
    missing    text[] NOT NULL,       -- streams of which nothing was known then
    document   jsonb NOT NULL
);
CREATE INDEX IF NOT EXISTS rulings_by_time ON {s}.rulings (start_time);

CREATE TABLE IF NOT EXISTS {s}.audits (             -- one row a window that was judged once more, whole
    id            text PRIMARY KEY,   -- of the window
    stream        text NOT NULL,
    time          timestamptz NOT NULL,
    generation    text NOT NULL,
    outcome       text NOT NULL,
    p             double precision NOT NULL,    -- the probability with which it was picked
    reported      boolean NOT NULL,
    heavy_flagged boolean NOT NULL,
    missed        boolean NOT NULL,
    document      jsonb NOT NULL
);

CREATE TABLE IF NOT EXISTS {s}.outages (            -- one row a time in which nobody watched
    id         text PRIMARY KEY,
    stream     text NOT NULL,
    reason     text NOT NULL,         -- lost: the connection; down: this program; paused
    start_time timestamptz NOT NULL,
    end_time   timestamptz NOT NULL,
    seconds    double precision NOT NULL,
    document   jsonb NOT NULL
);
CREATE INDEX IF NOT EXISTS outages_by_time ON {s}.outages (start_time);

CREATE OR REPLACE VIEW {s}.flagged_results AS
SELECT r.id, r.stream, r.time, r.pts_s, r.decided_by, r.generation, r.certified,
       array_agg(DISTINCT d.label ORDER BY d.label) FILTER (WHERE d.label IS NOT NULL) AS labels,
       max(d.score) AS top_score, count(d.n) AS detections
FROM {s}.results r LEFT JOIN {s}.detections d ON d.result_id = r.id
WHERE r.flagged
GROUP BY r.id;

CREATE OR REPLACE VIEW {s}.verdict_share AS         -- what became of the parts
SELECT stream, verdict, count(*) AS windows, count(*) / sum(count(*)) OVER (PARTITION BY stream) AS share
FROM {s}.results
GROUP BY stream, verdict;

CREATE OR REPLACE VIEW {s}.events_by_label AS
SELECT stream, label, count(*) AS events, count(*) FILTER (WHERE open) AS open, sum(seconds) AS seconds,
       max(count) AS most_at_once, min(start_time) AS first_time, max(end_time) AS last_time
FROM {s}.events
GROUP BY stream, label;

CREATE OR REPLACE VIEW {s}.labels_per_minute AS     -- how many people (or whatever is detected) a stream showed
SELECT stream, date_trunc('minute', time) AS minute, label,
       count(*) AS windows, max(seen) AS most_at_once, max(top) AS top_score
FROM (SELECT r.stream, r.time, d.label, count(*) AS seen, max(d.score) AS top
      FROM {s}.results r JOIN {s}.detections d ON d.result_id = r.id
      GROUP BY r.id, d.label) AS found
GROUP BY stream, minute, label;

CREATE OR REPLACE VIEW {s}.decided_by_share AS      -- who settled how much
SELECT stream, decided_by, count(*) AS results, count(*) / sum(count(*)) OVER (PARTITION BY stream) AS share,
       avg(latency_ms) AS mean_latency_ms
FROM {s}.results WHERE outcome = 'result'
GROUP BY stream, decided_by;
"""
"""{s} is the schema, quoted. Made where it is not there."""

COLUMNS: Final = {
    "outcome": (
        "id, stream, epoch, seq, pts_s, time, outcome, verdict, flagged, decided_by, generation, certified, latency_ms,"
        " reason, carried_from, file, action, rule, document"
    ),
    "event": "id, stream, label, start_time, end_time, seconds, count, windows, open, best_score, document",
    "ruling": (
        "id, show, action, rule, targets, start_time, end_time, seconds, open, latency_ms, evidence, missing, document"
    ),
    "audit": "id, stream, time, generation, outcome, p, reported, heavy_flagged, missed, document",
    "outage": "id, stream, reason, start_time, end_time, seconds, document",
}
_OF_THE_DECISION: Final = frozenset({"latency_ms", "evidence"})  # which later words on a ruling do not change
_NEWER: Final = {
    # a second run judges anew, and its verdict replaces the first; but no verdict is lost to a window that got none
    "outcome": "excluded.outcome = 'result' OR old.outcome <> 'result'",
    # an end stands, whatever comes again of what was before it
    "event": "NOT excluded.open OR (old.open AND excluded.windows >= old.windows)",
    "ruling": "NOT excluded.open OR (old.open AND excluded.seconds >= old.seconds)",
}


def put(kind: str, table: str, schema: str) -> str:
    """The statement that puts one row of that kind in its place."""
    names = COLUMNS[kind].split(", ")
    fresh = ", ".join(
        f"{name} = coalesce(excluded.{name}, old.{name})"
        if kind == "ruling" and name in _OF_THE_DECISION
        else f"{name} = excluded.{name}"
        for name in names[1:]
    )
    newer = f" WHERE {_NEWER[kind]}" if kind in _NEWER else ""
    return (
        f"INSERT INTO {schema}.{table} AS old ({', '.join(names)}) VALUES ({', '.join(['%s'] * len(names))})"  # noqa: S608 (our own words)
        f" ON CONFLICT (id) DO UPDATE SET {fresh}{newer}"
    )


DROP_DETECTIONS: Final = "DELETE FROM {s}.detections WHERE result_id = %s"
PUT_DETECTION: Final = (
    "INSERT INTO {s}.detections (result_id, n, label, score, x1, y1, x2, y2, start_ns, end_ns, first_char, last_char)"
    " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
)
