"""What stands on the command line → one document, ready to be checked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.app.config.cascades import DEFAULTS
from pipeline.app.config.document import Document, read
from pipeline.app.config.load import AROUND
from pipeline.app.config.targets import STDIN, add_targets, default_sinks, filter_sinks, is_config
from pipeline.core.errors import InputError

RESULTS = Path("results")


def assemble(  # each argument is one option of `thresher run`
    targets: Sequence[str],
    *,
    detect: str | None = None,
    assignments: Sequence[str] = (),
    results: Path | None = None,
    metrics: str | None = None,
    state: Path | None = None,
    web: bool = False,
    as_json: bool = False,
    config: Document | None = None,
    sinks: dict[str, Any] | None = None,
) -> Document:
    """`targets` are at most one config and any number of sources that are added to it, or to `config`. What an option
    says wins over the config, and `--set` over all. `sinks` is what a config gets that names none, in place of a table
    and files of results. Raises `InputError`."""
    configs = [target for target in targets if is_config(target)]
    if len(configs) + (config is not None) > 1:
        raise InputError("one config at a time; its sources section takes as many streams as you like", configs[-1])
    document = config or (read(Path(configs[0])) if configs else Document({}, Path.cwd()))
    added = add_targets(document, [target for target in targets if target not in configs])
    data = document.data
    if detect is not None:
        data["cascade"] = {"cheap": {"model": detect}} if Path(detect).suffix else detect
        document.names[("cascade",)] = "--detect"
    if metrics is not None:
        data["metrics"] = {"listen": metrics}
        document.names["metrics", "listen"] = "--metrics"
    if web and data.get("web") is None:
        data["web"] = {}
    if state is not None:
        data["state"] = str(state)
        document.names[("state",)] = "--state"
    if results is not None and results.exists() and not results.is_dir():
        raise InputError(f"{results} is no folder", "--out")
    if data.get("sinks") is None and sinks is not None:
        data["sinks"] = sinks
    elif data.get("sinks") is None:
        name = Path(document.origin).stem if configs else added[0] if len(added) == 1 else "run"
        lines_in = STDIN in targets and not as_json and results is None
        data["sinks"] = filter_sinks() if lines_in else default_sinks(results or RESULTS, name)
    elif results is not None:
        raise InputError("the config names its own sinks, so there is nothing to put there", "--out")
    _set(document, assignments)
    if as_json:
        _clear_stdout(data["sinks"])
    return document


def _set(document: Document, assignments: Sequence[str]) -> None:
    """First what the page is: it may keep what ran last, to which the others are done."""
    of_the_page = [one for one in assignments if one.partition("=")[0].split(".")[0].strip() == "web"]
    for assignment in of_the_page:
        document.set(assignment)
    data = document.data
    if isinstance(data.get("web"), dict) and data["web"].get("keep") is not None:
        from pipeline.app.kept import Kept

        document.kept = Kept.over(document)
    for assignment in assignments:
        if assignment in of_the_page:
            continue
        if assignment.startswith("cascade.") and isinstance(data.get("cascade"), str | None):
            data["cascade"] = {"base": data.get("cascade") or _default_cascade(data.get("sources"))}
        document.set(assignment)


def _default_cascade(sections: Any) -> str:
    """What judges the first source where nobody said what should."""
    from sources import CATALOGUE

    for section in sections.values() if isinstance(sections, dict) else ():
        read_in_the_end = _innermost(section)
        if isinstance(read_in_the_end, dict) and read_in_the_end.get("kind") in CATALOGUE.table:
            return DEFAULTS[CATALOGUE.load(read_in_the_end["kind"]).medium]
    return DEFAULTS["picture"]


def _innermost(section: Any) -> Any:
    """What stands behind all adapters that are around another."""
    while isinstance(section, dict) and isinstance(section.get(AROUND), dict):
        section = section[AROUND]
    return section


def _clear_stdout(sinks: Any) -> None:
    """Standard output belongs to the document: tables go to standard error, and nothing else may write there."""
    for name, section in sinks.items() if isinstance(sinks, dict) else ():
        written_in_the_end = _innermost(section)
        if not isinstance(written_in_the_end, dict):
            continue
        if written_in_the_end.get("kind") == "console":
            written_in_the_end["stream"] = "stderr"
        elif written_in_the_end.get("path") == "-":
            raise InputError(f'the sink "{name}" writes to standard output, which the document needs', "--json")
