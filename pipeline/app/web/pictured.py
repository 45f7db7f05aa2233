"""Which streams there are to look at."""

from __future__ import annotations

from fastapi import HTTPException

from pipeline.app.web.site import Site


def is_there(site: Site, name: str) -> bool:
    return name in site.running.states


def pictured(site: Site, name: str) -> None:
    """Raises 404 with the reason where there is no such stream, or nothing to see in it."""
    if not is_there(site, name):
        raise HTTPException(404, f"there is no stream {name}: /api/streams lists them")
    source = site.plan.sources.get(name)
    medium = "sound" if source is None else source.medium
    if medium != "picture":
        raise HTTPException(404, f"{name} is {medium}: there are no pictures of it")
