"""What deploys it: as a user who owns nothing, on a root that cannot be written, with no shell's help."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest


@pytest.fixture
def unit(project: Path, tmp_path: Path) -> Path:
    """The service, with a program in it that is there."""
    text = (project / "configs" / "deploy" / "thresher@.service").read_text()
    path = tmp_path / "thresher@door.service"
    path.write_text(text.replace("/opt/thresher/bin/thresher", "/bin/true"))
    return path


def test_systemd_finds_nothing_wrong_with_the_service(unit: Path) -> None:
    ran = subprocess.run(["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


def test_the_service_may_do_little(unit: Path) -> None:
    ran = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--threshold=20", str(unit)], capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stdout[-300:]


def instructions(project: Path) -> list[str]:
    text = (project / "Dockerfile").read_text().replace("\\\n", " ")
    return [" ".join(line.split()) for line in text.splitlines() if line.strip() and not line.startswith("#")]


def test_the_image_is_no_roots_and_tells_how_it_is(project: Path) -> None:
    lines = instructions(project)
    user = max(n for n, line in enumerate(lines) if line.startswith("USER "))
    assert lines[user] == "USER 10001:10001"
    assert not any(line.startswith(("RUN", "COPY", "ADD")) for line in lines[user:])
    assert not any(line.startswith("ADD ") or "curl" in line or "|" in line for line in lines)
    assert any(line.startswith("HEALTHCHECK") and '["thresher", "health"]' in line for line in lines)
    assert any(line.startswith("ENTRYPOINT [") for line in lines), "without a shell"
    copied = {line.split()[1] for line in lines if line.startswith("COPY ") and not line.startswith("COPY --from")}
    assert {"pipeline", "sources", "detectors", "sinks"} <= copied | set(lines[0].split())
    for name in copied:
        assert (project / name).exists()


def reachable(spare: Path) -> str:
    """What lets everybody run this Python where it lies in somebody's own folder."""
    base = Path(sys.base_prefix)
    shut = next((folder for folder in reversed(base.parents) if not folder.stat().st_mode & 0o001), None)
    if shut is None:
        return ""
    (spare / "python").mkdir()
    moved = f"mount --bind {base} {spare}/python; mount -t tmpfs -o mode=755 tmpfs {shut}; mkdir -p {base}"
    return f"{moved}; mount --bind {spare}/python {base}; mount -o remount,ro,bind {shut}"


@pytest.mark.slow
def test_the_steps_of_the_image(project: Path, tmp_path: Path) -> None:
    """No engine builds images here, so its steps are taken by hand: the same files are installed by the same command
    into an environment of their own, which a user without rights then runs on a root that is read-only, with nothing
    writable but its own folder."""
    if os.geteuid() != 0:
        pytest.fail("this test takes rights away, which takes root")
    source, home, root = tmp_path / "src", tmp_path / "data", tmp_path / "opt"
    source.mkdir()
    for line in instructions(project):
        if line.startswith("COPY ") and not line.startswith("COPY --from"):
            *given, into = line.split()[1:]
            for name in given:
                found = project / name
                if found.is_dir():
                    shutil.copytree(found, source / into, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    shutil.copy(found, source)
    venv.create(root)
    install = next(line for line in instructions(project) if "pip install" in line)
    extras = re.findall(r"'\.\[\w+\]'", install)[0].strip("'")
    # what it depends on is here already; an index need not be at hand
    packages = next(Path(one) for one in sys.path if one.endswith("site-packages"))
    where = next((root / "lib").glob("python3.*/site-packages"))
    (where / "here.pth").write_text(f"{packages}\n")
    command = [sys.executable, "-m", "pip", "--python", root / "bin" / "python", "install", "--no-cache-dir"]
    made = subprocess.run(
        [*command, "--no-deps", "--no-build-isolation", extras], cwd=source, capture_output=True, text=True
    )
    assert made.returncode == 0, made.stderr[-1000:]
    assert (where / "pipeline" / "app" / "cli.py").is_file(), "no link into the checkout"
    home.mkdir(mode=0o700)
    os.chown(home, 10001, 10001)
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == 0 and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o011)
    config = tmp_path / "c.yaml"
    config.write_text(
        "sources: {a: {kind: pattern, fps: 10, frames: 200}}\ncascade: people-ssdlite\n"
        "sinks: {log: {kind: jsonl, path: out.jsonl}}\nmetrics: {listen: 127.0.0.1:9642}\n"
    )
    inside = f"""
        set -eu
        mount --make-rprivate /
        {reachable(tmp_path)}
        mount --bind {home} {home}
        mount -t tmpfs tmpfs /dev/shm
        mount -o remount,ro,bind /
        ip link set lo up 2>/dev/null || true
        cd {home}
        run() {{ setpriv --reuid 10001 --regid 10001 --clear-groups --no-new-privs --bounding-set=-all "$@"; }}
        ! touch /etc/x {tmp_path}/x 2>/dev/null
        run /bin/sh -c '! touch /opt/x /tmp/x {root}/x 2>/dev/null && touch {home}/x'
        run env -i THRESHER_CACHE={home}/cache HOME={home} {root}/bin/thresher run {config} &
        for n in $(seq 120); do
            sleep 0.5
            if run env -i HOME={home} {root}/bin/thresher health; then break; fi
        done 2>/dev/null
        wait $!
    """
    ran = subprocess.run(
        ["unshare", "--mount", "--net", "/bin/sh", "-c", inside],
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert "ready, healthy" in ran.stdout
    assert len((home / "out.jsonl").read_text().splitlines()) >= 200
    assert (home / "out.jsonl").stat().st_uid == 10001
