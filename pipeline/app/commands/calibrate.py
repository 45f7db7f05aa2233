"""`thresher calibrate`: prove how much a cascade misses of what its heavy model flags."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.app.commands.options import (
    Between,
    duration,
    json_option,
    needs_scipy,
    print_json,
    progress_bar,
    set_option,
)

if TYPE_CHECKING:
    from detectors.calibration.calibrate import Claim
    from detectors.calibration.certificate import Against
    from pipeline.app.calibration.document import Calibration
    from pipeline.app.calibration.said import Said
    from pipeline.app.calibration.units import Units
    from pipeline.core.contracts import Generation

_BEGINS = b"format: "  # a certificate
_RATE = Between(0, 1, min_open=True, max_open=True)


@click.command(short_help="Prove how much a cascade misses of what its heavy model flags.")
@click.argument("config", metavar="CONFIG")
@click.option(
    "--data", type=click.Path(path_type=Path), required=True, help="Labelled parts, or pictures: each is a unit."
)
@click.option("--format", "data_format", help="Of labelled data: folders, coco, yolo, deeppcb, masks (looked up).")
@click.option("--only", type=click.Path(path_type=Path), metavar="FILE", help="Only the samples it names, a line each.")
@click.option("--group", "groups", multiple=True, metavar="NAME", help="Only this group of the data. Repeatable.")
@click.option("--max-miss", type=_RATE, default=0.02, show_default=True, help="The miss rate to promise.")
@click.option("--delta", type=_RATE, default=0.05, show_default=True, help="How likely the promise may be wrong.")
@click.option("--max-false", type=_RATE, help="Certify this rate of false alarms as well.")
@click.option(
    "--against",
    type=click.Choice(["heavy", "truth"]),
    default="heavy",
    show_default=True,
    help="What is missed: of what the heavy model flags, or of what truly is.",
)
@click.option("--each-class", is_flag=True, help="Promise it of each class of the heavy model by itself.")
@click.option(
    "--truth",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Names of the true positives, a line each: shows both.",
)
@click.option("--every", "every_s", callback=duration, metavar="TIME", help="Of a film: frames so far apart are units.")
@click.option(
    "--topped-up", is_flag=True, help="Data may be added after a look: a test that allows it, and needs more."
)
@click.option("--match-iou", type=_RATE, default=0.5, show_default=True, help="From what overlap boxes are the same.")
@click.option(
    "--up-to", type=Between(0, 1), metavar="THRESHOLD", help="Be no bolder than that, however much could be proved."
)
@click.option("--split", default="not said", help="What these data were to the models, for the certificate.")
@click.option("--cascade", metavar="NAME", help="Which one, where the config has several.")
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="Default: CONFIG's name.certificate.yaml")
@set_option
@json_option
def calibrate(  # noqa: PLR0917  # each is an option, and click calls it by name
    config: str,
    data: Path,
    data_format: str | None,
    groups: tuple[str, ...],
    only: Path | None,
    max_miss: float,
    delta: float,
    max_false: float | None,
    against: Against,
    each_class: bool,
    truth: Path | None,
    every_s: float | None,
    topped_up: bool,
    match_iou: float,
    up_to: float | None,
    split: str,
    cascade: str | None,
    out: Path | None,
    assignments: tuple[str, ...],
    as_json: bool,
) -> int:
    """Find the boldest threshold of the cascade in CONFIG (or of a shipped one, by name) at which it provably misses at
    most --max-miss of what its heavy model flags, and write the certificate.

    The heavy model judges every whole unit in --data, so that takes as long as it does without a cascade. Exit status 2
    says how many positives are missing, 1 that no threshold could be proved.
    """
    from detectors.calibration.calibrate import Claim
    from pipeline.app.calibration.document import certificate_of, document, not_held, refusal, told
    from pipeline.app.calibration.said import said_by, scores_beside
    from pipeline.app.calibration.units import units_of
    from pipeline.app.config.subject import cascade_document
    from pipeline.app.wiring import prepare_cascade
    from pipeline.core.errors import InputError, ThresherError

    needs_scipy("calibrate")
    generation = prepare_cascade(cascade_document(config, assignments), cascade)
    spec = generation.cheap.spec
    units = units_of(data, every_s, truth, data_format=data_format, groups=groups, only=only, spec=spec)
    out = out or Path(f"{Path(config).stem}.certificate.yaml")
    _writable(out)
    claim = Claim(max_miss, delta, "e-value" if topped_up else "exact", max_false, each_class, against)
    if each_class and against == "truth":
        raise InputError(
            "promises it of the heavy model's classes; it does not go with --against truth", "--each-class"
        )
    with said_by(generation, units, data, split, scores_beside(out)) as said:
        done = _calibrated(generation, units, claim, match_iou=match_iou, up_to=up_to, said=said)
        if done.verified is None:  # nobody may look at a miss
            if as_json:
                print_json(document(done, {}))
            for line in refusal(done):
                click.echo(f"thresher: --data: {line}", err=True)
            return 2
        files: dict[str, str | None] = {}
        if done.chosen is not None:  # first of all: whoever looks at the same data again has no proof any more
            certificate = certificate_of(done)
            certificate.save(out)
            files["certificate"] = str(out)
        files = _curve_files(done, out) | files | said.keep()
    if as_json:
        print_json(document(done, files))
    if done.chosen is None:
        raise ThresherError(not_held(done))
    if not as_json:
        for line in told(done, certificate):
            click.echo(line)
        click.echo(f"\nwritten: {', '.join(name for name in files.values() if name)}")
        click.echo(f"Run it:  name it in the config (cascade: {{…, certificate: {out}}}), then thresher run")
    return 0


def _calibrated(
    generation: Generation,
    units: Units,
    claim: Claim,
    *,
    match_iou: float,
    up_to: float | None,
    said: Said,
) -> Calibration:
    from detectors.calibration.calibrate import lacks, measure, verify
    from detectors.calibration.paths import path_of
    from pipeline.app.calibration.document import Calibration, data_of
    from pipeline.core.errors import InputError

    if generation.heavy is None:
        raise InputError("this cascade has no heavy stage, so there is nothing it could be measured against", "CONFIG")
    path = path_of(generation.rule, decides_alone=claim.alpha_false is not None, match_iou=match_iou)
    if up_to is not None:
        path.steps = [step for step in path.steps if step.threshold <= up_to]  # the first is 0
    for stage in generation.stages:
        stage.warm()
    what = f"the heavy model judges {units.expected or 'the'} whole units …"
    with progress_bar(what, "units", units.expected) as progress:
        measured = measure(generation.cheap, generation.heavy, path, units, progress, heard=said.add)
    if not measured.units:
        raise InputError(f"{said.data} holds no picture that can be decoded", "--data")
    if claim.against == "truth" and not measured.truth.count:
        raise InputError("needs data that say what truly is: labelled parts, or --truth", "--against")
    short = lacks(measured, claim)
    described = data_of(said.data, said.split, units.what, measured, units.left_out)
    verified = None if short else verify(measured, claim)
    return Calibration(generation, path, claim, match_iou, described, measured, short, verified)


def _curve_files(done: Calibration, out: Path) -> dict[str, str | None]:
    """The curve beside the certificate; the picture only where it can be drawn, or a word why not."""
    from detectors.calibration.calibrate import curve
    from pipeline.app.calibration.plot import draw
    from pipeline.core.errors import MissingPart
    from pipeline.core.files import save_text

    rows = curve(done.measured, done.claim)
    table, picture = out.with_suffix(".curve.json"), out.with_suffix(".curve.png")
    save_text(table, json.dumps({"chosen": done.chosen, "curve": rows}, indent=1) + "\n")
    try:
        draw(rows, done.chosen, picture)
    except MissingPart as error:
        click.echo(f"the curve was not drawn: {error.message}", err=True)
        return {"curve": str(table), "picture": None}
    return {"curve": str(table), "picture": str(picture)}


def _writable(out: Path) -> None:
    """Found out before the long work, not after it."""
    from pipeline.core.errors import InputError

    if out.is_dir():
        raise InputError(f"{out} is a folder", "--out")
    probe = out.with_name(f".{out.name}.writable")
    try:
        if out.exists():
            if not out.is_file():
                raise InputError(f"{out} is no file", "--out")
            if not os.access(out, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            with out.open("rb") as file:
                if (begins := file.read(len(_BEGINS))) and begins != _BEGINS:
                    raise InputError(f"{out} is there already, and is no certificate: choose another name", "--out")
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(f"{out} cannot be written: {error.strerror}", "--out") from None
