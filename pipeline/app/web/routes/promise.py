"""What is promised, whether it holds, and what another threshold would bring."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Path

from pipeline.app.web.access import viewer
from pipeline.app.web.problems import answers
from pipeline.app.web.site import Site
from pipeline.core.errors import InputError

Name = Annotated[str, Path(max_length=100)]


def router(site: Site) -> APIRouter:
    routes = APIRouter(prefix="/api/promise", tags=["promise"], dependencies=[viewer])

    @routes.get("")
    def promises() -> dict[str, Any]:
        """Of each cascade the certificate, the live audit with its bounds over time, and the effective recall."""
        return site.promises.document()

    @routes.get(
        "/{cascade}/replay",
        responses=answers(404, 409),
    )
    def replay(cascade: Name) -> dict[str, Any]:
        """What every threshold of the ladder would have found and cost over stored scores. Nothing is changed."""
        try:
            return site.promises.replay(cascade)
        except KeyError:
            raise HTTPException(404, f'no cascade "{cascade}" runs') from None
        except LookupError as error:
            raise HTTPException(404, str(error)) from None
        except InputError as error:
            raise HTTPException(409, f"{error.place}: {error.message}") from None

    return routes
