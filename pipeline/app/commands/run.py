"""`thresher run`: the main job."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.app.commands.options import detect_option, duration, json_option, print_json, set_option


@click.command(short_help="Watch streams: a config, or URLs, cameras, files, folders.")
@click.argument("targets", nargs=-1, required=True, metavar="TARGET…")
@detect_option
@set_option
@click.option("--for", "seconds", callback=duration, metavar="TIME", help="Stop after this long: 30s, 5m, 1h.")
@json_option
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="Where results go (default: results).")
@click.option("--metrics", metavar="[HOST:]PORT", help="Answer Prometheus there.")
@click.option(
    "--state",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Keep there how far each stream was delivered; a restart goes on from there.",
)
@click.option("--web", is_flag=True, help="Show it all on a page: http://127.0.0.1:8642, or where `web.listen` says.")
@click.option("--require-sources", is_flag=True, help="Fail when a source is not connected in time.")
@click.option(
    "--connect-within",
    callback=duration,
    default="10s",
    metavar="TIME",
    help="What in time means there (default: 10s).",
)
def run(  # noqa: PLR0917  # each is an option, and click calls it by name
    targets: tuple[str, ...],
    detect: str | None,
    assignments: tuple[str, ...],
    seconds: float | None,
    as_json: bool,
    out: Path | None,
    metrics: str | None,
    state: Path | None,
    web: bool,
    require_sources: bool,
    connect_within: float,
) -> int:
    """Watch TARGET until it ends or Ctrl-C is pressed; what is found goes to the sinks.

    A TARGET is a config (*.yaml), a URL (rtsp://…, wss://…), the number of a camera (0), a file, a folder of pictures,
    or - for lines of text from standard input. Several are watched at once. Without a config people are looked for, a
    live table is shown, and results go to results/; with - messages are judged, and verdicts go to standard output.
    """
    from pipeline.app.assemble import assemble
    from pipeline.app.runner import RunOptions, execute
    from pipeline.app.wiring import prepare

    document = assemble(
        targets,
        detect=detect,
        assignments=assignments,
        results=out,
        metrics=metrics,
        state=state,
        web=web,
        as_json=as_json,
    )
    plan, generations = prepare(document)
    report = execute(plan, generations, document, RunOptions(seconds, connect_within if require_sources else None))
    if as_json:
        print_json(report.document)
    else:
        report.tell()
    return report.status
