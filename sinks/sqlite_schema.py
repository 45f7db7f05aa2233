"""The tables that people query. Times are ISO 8601 in UTC, which sorts and which SQLite's date functions read."""

APPLICATION_ID = 0x54485253  # "THRS": how a database of ours is told from anybody else's
VERSION = 6

SCHEMA = """
CREATE TABLE IF NOT EXISTS results (                -- one row a window: its verdict, or why it has none
    id           TEXT PRIMARY KEY,    -- stream/epoch/seq
    stream       TEXT NOT NULL,
    epoch        TEXT NOT NULL,
    seq          INTEGER NOT NULL,
    pts_s        REAL NOT NULL,       -- media time at which it begins
    time         TEXT NOT NULL,       -- when its first packet arrived, of sound the one with its newest sample
    outcome      TEXT NOT NULL CHECK (outcome IN ('result', 'shed', 'failed')),
    decided_by   TEXT,                -- stage, gate or feed state
    generation   TEXT,
    certified    INTEGER,
    flagged      INTEGER NOT NULL,    -- something to act on
    latency_ms   REAL NOT NULL,
    reason       TEXT,                -- of shed and failed
    carried_from TEXT,                -- the window whose verdict this one repeats
    file         TEXT,                -- the picture's name, where each has one of its own
    verdict      TEXT NOT NULL DEFAULT 'unknown' CHECK (verdict IN ('accept', 'reject', 'unknown')),
    action       TEXT,                -- what this window alone calls for, under a policy
    rule         TEXT,                -- the one that says so
    pts_ns       INTEGER,             -- media time at which it begins, to the nanosecond
    trusted      INTEGER NOT NULL DEFAULT 1 -- 0: nobody vouches that the cascade still keeps its promise
) STRICT;
CREATE INDEX IF NOT EXISTS results_by_stream ON results (stream, time);
CREATE INDEX IF NOT EXISTS results_by_time ON results (time);
CREATE INDEX IF NOT EXISTS results_flagged ON results (time) WHERE flagged;
CREATE INDEX IF NOT EXISTS results_unknown ON results (time) WHERE verdict = 'unknown';

CREATE TABLE IF NOT EXISTS detections (
    result_id TEXT NOT NULL REFERENCES results (id) ON DELETE CASCADE,
    n         INTEGER NOT NULL,       -- its place within the result
    label     TEXT NOT NULL,
    score     REAL NOT NULL,
    -- where it is, NULL where nobody says so; nowhere at all: the whole window
    x1 REAL, y1 REAL, x2 REAL, y2 REAL,       -- source pixels
    start_ns INTEGER, end_ns INTEGER,         -- media time of a sound
    first_char INTEGER, last_char INTEGER,    -- characters of a message, half-open: the last is behind them
    PRIMARY KEY (result_id, n)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS detections_by_label ON detections (label, score);

CREATE TABLE IF NOT EXISTS events (                 -- one row an event, kept up to date while it lasts
    id         TEXT PRIMARY KEY,
    stream     TEXT NOT NULL,
    label      TEXT NOT NULL,
    start_time TEXT NOT NULL,
    end_time   TEXT NOT NULL,         -- so far, while it is open
    start_s    REAL NOT NULL,         -- media time
    end_s      REAL NOT NULL,
    seconds    REAL NOT NULL,
    count      INTEGER NOT NULL,      -- the most of them at once
    windows    INTEGER NOT NULL,
    open       INTEGER NOT NULL,
    best_score REAL NOT NULL,
    x1 REAL, y1 REAL, x2 REAL, y2 REAL,   -- where the best one was
    zone       TEXT,                  -- the zone it happened in, or the line that was crossed
    direction  TEXT,                  -- which way a line was crossed: in or out
    track      TEXT,                  -- the same in all events of one object
    held_back  INTEGER NOT NULL DEFAULT 0, -- events of this label before it that the rate limit left untold
    start_ns   INTEGER,               -- media time, to the nanosecond
    end_ns     INTEGER,
    told       TEXT,                  -- how it was told last: new, update, end
    best_label TEXT,                  -- of several that a sound was taken for, the one with the best score
    -- where the best one was, in a sound or a message
    best_start_ns INTEGER, best_end_ns INTEGER, best_first_char INTEGER, best_last_char INTEGER
) STRICT;
CREATE INDEX IF NOT EXISTS events_by_stream ON events (stream, start_time);
CREATE INDEX IF NOT EXISTS events_by_time ON events (start_time);

CREATE TABLE IF NOT EXISTS rulings (                -- one row an action of a policy, kept up to date while it lasts
    id         TEXT PRIMARY KEY,
    show       TEXT NOT NULL,
    action     TEXT NOT NULL,
    rule       TEXT NOT NULL,
    targets    TEXT NOT NULL,         -- the streams, as JSON
    start_time TEXT NOT NULL,
    end_time   TEXT NOT NULL,         -- not before that, while it is open
    start_s    REAL NOT NULL,         -- on the show's clock
    end_s      REAL NOT NULL,
    seconds    REAL NOT NULL,
    open       INTEGER NOT NULL,
    latency_ms REAL,                  -- from the newest arrival that contributed to the decision
    evidence   TEXT,                  -- what it was decided by, as JSON: windows, labels, scores, thresholds, models
    missing    TEXT NOT NULL          -- streams of which nothing was known then, as JSON
) STRICT;
CREATE INDEX IF NOT EXISTS rulings_by_time ON rulings (start_time);

CREATE TABLE IF NOT EXISTS outages (                -- when nothing of a live stream was received: what came is gone
    id         TEXT PRIMARY KEY,
    stream     TEXT NOT NULL,
    reason     TEXT NOT NULL,         -- lost: the connection, down: the program was not running, paused
    start_time TEXT NOT NULL,
    end_time   TEXT NOT NULL,
    seconds    REAL NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS outages_by_time ON outages (start_time);

CREATE VIEW IF NOT EXISTS rulings_by_rule AS
SELECT show, rule, action, count(*) AS rulings, sum(open) AS open, sum(seconds) AS seconds,
       max(latency_ms) AS worst_latency_ms
FROM rulings
GROUP BY show, rule, action;

CREATE VIEW IF NOT EXISTS flagged_results AS
SELECT r.id, r.stream, r.time, r.pts_s, r.decided_by, r.generation, r.certified,
       group_concat(DISTINCT d.label) AS labels, max(d.score) AS top_score, count(d.n) AS detections
FROM results r LEFT JOIN detections d ON d.result_id = r.id
WHERE r.flagged
GROUP BY r.id;

CREATE VIEW IF NOT EXISTS verdict_share AS          -- what became of the parts
SELECT stream, verdict, count(*) AS windows, 1.0 * count(*) / sum(count(*)) OVER (PARTITION BY stream) AS share
FROM results
GROUP BY stream, verdict;

CREATE VIEW IF NOT EXISTS events_by_label AS
SELECT stream, label, count(*) AS events, sum(open) AS open, sum(seconds) AS seconds, max(count) AS most_at_once,
       min(start_time) AS first_time, max(end_time) AS last_time
FROM events
GROUP BY stream, label;

CREATE VIEW IF NOT EXISTS labels_per_minute AS   -- how many people (or whatever is detected) a stream showed
SELECT stream, substr(time, 1, 16) AS minute, label,
       count(*) AS windows, max(seen) AS most_at_once, max(top) AS top_score
FROM (SELECT r.stream, r.time, d.label, count(*) AS seen, max(d.score) AS top
      FROM results r JOIN detections d ON d.result_id = r.id
      GROUP BY r.id, d.label)
GROUP BY stream, minute, label;

CREATE VIEW IF NOT EXISTS decided_by_share AS       -- who settled how much
SELECT stream, decided_by, count(*) AS results,
       1.0 * count(*) / sum(count(*)) OVER (PARTITION BY stream) AS share, avg(latency_ms) AS mean_latency_ms
FROM results WHERE outcome = 'result'
GROUP BY stream, decided_by;
"""

UPGRADES = {
    1: """
ALTER TABLE results ADD COLUMN verdict TEXT NOT NULL DEFAULT 'unknown'
    CHECK (verdict IN ('accept', 'reject', 'unknown'));
UPDATE results SET verdict = iif(flagged, 'reject', 'accept') WHERE outcome = 'result';
""",
    2: """
ALTER TABLE results ADD COLUMN action TEXT;
ALTER TABLE results ADD COLUMN rule TEXT;
""",
    3: """
ALTER TABLE detections ADD COLUMN start_ns INTEGER;
ALTER TABLE detections ADD COLUMN end_ns INTEGER;
ALTER TABLE detections ADD COLUMN first_char INTEGER;
ALTER TABLE detections ADD COLUMN last_char INTEGER;
""",
    4: """
ALTER TABLE events ADD COLUMN zone TEXT;
ALTER TABLE events ADD COLUMN direction TEXT;
ALTER TABLE events ADD COLUMN track TEXT;
ALTER TABLE events ADD COLUMN held_back INTEGER NOT NULL DEFAULT 0;
""",
    5: """
ALTER TABLE results ADD COLUMN pts_ns INTEGER;
ALTER TABLE results ADD COLUMN trusted INTEGER NOT NULL DEFAULT 1;
ALTER TABLE events ADD COLUMN start_ns INTEGER;
ALTER TABLE events ADD COLUMN end_ns INTEGER;
ALTER TABLE events ADD COLUMN told TEXT;
ALTER TABLE events ADD COLUMN best_label TEXT;
ALTER TABLE events ADD COLUMN best_start_ns INTEGER;
ALTER TABLE events ADD COLUMN best_end_ns INTEGER;
ALTER TABLE events ADD COLUMN best_first_char INTEGER;
ALTER TABLE events ADD COLUMN best_last_char INTEGER;
""",
}
"""By the version they start from: what makes tables of the next one of it. What only adds tables and views needs no
step here: the schema is run behind these once more."""

AUDITS = """
CREATE TABLE IF NOT EXISTS audits (                 -- one row a window that was judged once more, whole
    id            TEXT PRIMARY KEY,   -- of the window
    stream        TEXT NOT NULL,
    time          TEXT NOT NULL,
    generation    TEXT NOT NULL,
    outcome       TEXT NOT NULL,
    p             REAL NOT NULL,      -- the probability with which it was picked
    reported      INTEGER NOT NULL,
    heavy_flagged INTEGER NOT NULL,
    missed        INTEGER NOT NULL,
    detections    TEXT NOT NULL       -- what the heavy stage flags, as JSON
) STRICT
"""
"""Made where there is something to put in it."""

_RESULT = (
    "id, stream, epoch, seq, pts_s, time, outcome, decided_by, generation, certified, flagged, latency_ms, reason, "
    "carried_from, file, verdict, action, rule, pts_ns, trusted"
)
_EVENT = (
    "id, stream, label, start_time, end_time, start_s, end_s, seconds, count, windows, open, best_score, x1, y1, x2, "
    "y2, zone, direction, track, held_back, start_ns, end_ns, told, best_label, best_start_ns, best_end_ns, "
    "best_first_char, best_last_char"
)


_AUDIT = "id, stream, time, generation, outcome, p, reported, heavy_flagged, missed, detections"


_RULING = (
    "id, show, action, rule, targets, start_time, end_time, start_s, end_s, seconds, open, latency_ms, evidence, "
    "missing"
)
_OUTAGE = "id, stream, reason, start_time, end_time, seconds"
_OF_THE_DECISION = frozenset({"latency_ms", "evidence"})  # which later words on the ruling do not change


def _upsert(table: str, columns: str) -> str:
    names = columns.split(", ")
    marks = ", ".join("?" * len(names))
    fresh = ", ".join(
        f"{name} = coalesce(excluded.{name}, {table}.{name})"
        if name in _OF_THE_DECISION and table == "rulings"
        else f"{name} = excluded.{name}"
        for name in names[1:]
    )
    return f"INSERT INTO {table} ({columns}) VALUES ({marks}) ON CONFLICT (id) DO UPDATE SET {fresh}"  # noqa: S608 (our own words)


# a second run judges anew, and its verdict replaces the first; but no verdict is lost to a window that got none
PUT_RESULT = _upsert("results", _RESULT) + " WHERE excluded.outcome = 'result' OR results.outcome <> 'result'"
PUT_EVENT = _upsert("events", _EVENT)
PUT_RULING = _upsert("rulings", _RULING)
PUT_OUTAGE = _upsert("outages", _OUTAGE)
PUT_AUDIT = _upsert("audits", _AUDIT)
DROP_DETECTIONS = "DELETE FROM detections WHERE result_id = ?"
PUT_DETECTION = (
    "INSERT INTO detections (result_id, n, label, score, x1, y1, x2, y2, start_ns, end_ns, first_char, last_char) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
