"""A file that is no film but a list of other files leads to none of them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipeline.core.errors import InputError
from sources.file import File
from sources.sound_file import SoundFile
from tests.contracts import source_suite as suite

BIKES = Path(__file__).parents[1] / "data" / "bikes.mp4"


@pytest.mark.parametrize(
    "text",
    [
        "ffconcat version 1.0\nfile secret.mp4\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsecret.mp4\n#EXT-X-ENDLIST\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 26\n",
    ],
    ids=["concat", "hls", "sdp"],
)
@pytest.mark.parametrize("name", ["film.mp4", "film.ffconcat", "film.m3u8", "film.sdp"])
def test_a_list_of_files_is_no_film(tmp_path: Path, name: str, text: str) -> None:
    shutil.copy(BIKES, tmp_path / "secret.mp4")
    (tmp_path / name).write_text(text)
    for kind in (File, SoundFile):
        with pytest.raises(InputError, match="cannot be read as"):
            kind(path=tmp_path / name).open(suite.STREAM)
