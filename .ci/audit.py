"""What is installed, looked at without the network: does it fit what `pyproject.toml` asks for, does it fit together,
and may it be used as this project is? With `--known`, also whether a weakness of it is known, where the network is
there. Every finding is a line, and ends it with status 1.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = "thresher"
FREE = (
    *("apache", "bsd", "mit", "isc", "python software foundation", "psf", "mpl", "mozilla public", "zlib", "unlicense"),
    *("historical permission", "hpnd", "cc0", "0bsd", "public domain", "lgpl", "lesser general public", "zpl"),
)
"""What a licence may be called. LGPL's parts are linked to, not copied."""
KNOWN = {
    "axe-playwright-python": "MIT, as its file of that name says; it carries axe-core, MPL-2.0; for tests alone",
    "nvidia": "proprietary, free to use; comes with torch's builds for CUDA, and is not shipped by this project",
    "cuda": "the same",
    "atheris": "Apache-2.0, as its repository says; for tests alone",
    "tempora": "MIT, as its file of that name says",
    "torch": "BSD-3-Clause; its metadata lists those of all that is in it",
}
"""By how a name begins: what was looked up where the metadata does not say it."""


def installed(name: str) -> Distribution | None:
    try:
        return distribution(name)
    except PackageNotFoundError:
        return None


def needed(root: Distribution) -> Iterator[tuple[str, Requirement]]:
    """All that it asks for, with all its extras, and what those ask for: who asks, and for what."""
    seen: set[tuple[str, str]] = set()
    extras = root.metadata.get_all("Provides-Extra") or []
    waiting = [(root, extra) for extra in ("", *extras)]
    while waiting:
        one, extra = waiting.pop()
        for text in one.requires or []:
            asked = Requirement(text)
            if asked.marker is not None and not asked.marker.evaluate({"extra": extra}):
                continue
            name = canonicalize_name(asked.name)
            yield one.metadata["Name"], asked
            found = installed(name)
            for wanted in ("", *asked.extras):
                if found is not None and (name, wanted) not in seen:
                    seen.add((name, wanted))
                    waiting.append((found, wanted))


def licence(one: Distribution) -> str:
    said = one.metadata.get("License-Expression") or ""
    classified = [c for c in one.metadata.get_all("Classifier") or [] if c.startswith("License ::")]
    return " ".join([said, *classified, (one.metadata.get("License") or "")[:400]])


def findings() -> Iterator[str]:
    root = installed(PROJECT)
    if root is None:
        yield f"{PROJECT} is not installed: make test, or pip install -e '.[dev]'"
        return
    looked_at: set[str] = set()
    for who, asked in needed(root):
        name = canonicalize_name(asked.name)
        found = installed(name)
        if found is None:
            yield f"{name}: {who} asks for it, and it is not there"
        elif not asked.specifier.contains(found.version, prereleases=True):
            yield f"{name} {found.version}: {who} asks for {asked.specifier}"
        elif name not in looked_at and name != PROJECT:
            looked_at.add(name)
            said = licence(found).lower()
            if not any(word in said for word in FREE) and not name.startswith(tuple(KNOWN)):
                yield f"{name} {found.version}: its licence is unknown ({said.strip()[:60] or 'it says none'})"
    print(f"{len(looked_at)} packages looked at")


def known() -> Iterator[str]:
    command = [sys.executable, "-m", "pip_audit", "--progress-spinner", "off", "--skip-editable", "--format", "json"]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        said = json.loads(ran.stdout)["dependencies"]
    except (subprocess.TimeoutExpired, ValueError, KeyError):
        print("known weaknesses: nobody could be asked, which needs the network")
        return
    asked = [one for one in said if "vulns" in one]
    for one in asked:
        for weakness in one["vulns"]:
            better = ", ".join(weakness.get("fix_versions") or ["nothing yet"])
            yield f"{one['name']} {one['version']}: {weakness['id']}, mended in {better}"
    print(f"known weaknesses: asked for {len(asked)} packages; {len(said) - len(asked)} the index does not know")


if __name__ == "__main__":
    wrong = list(findings())
    if "--known" in sys.argv:
        wrong += known()
    if wrong:
        raise SystemExit("\n".join(wrong))
