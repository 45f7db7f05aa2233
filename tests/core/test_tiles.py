"""Regions seen as they are: a square of the picture's own pixels."""

from __future__ import annotations

import numpy as np
import pytest
from av.video.frame import VideoFrame
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.payloads import LETTERBOX_GREY, FrameImage, ViewSpec
from pipeline.core.pictures import BadPicture, beside, read_beside

PICTURE = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
SPEC = ViewSpec(128, 96, tile=32)


@given(st.floats(-50, 200), st.floats(-50, 200), st.floats(0, 60))
def test_a_tile_is_the_picture_itself(x: float, y: float, side: float) -> None:
    view = FrameImage.from_array(PICTURE).view(SPEC, (x, y, x + side, y + side))
    left, top, right, bottom = (int(edge) for edge in view.bounds)
    assert (right - left, bottom - top) == (32, 32)
    np.testing.assert_array_equal(view.pixels, PICTURE[top:bottom, left:right])
    np.testing.assert_allclose(
        view.to_source(np.array([[1, 2, 3, 4]], np.float32)), [[left + 1, top + 2, left + 3, top + 4]]
    )


def test_its_middle_is_the_region_s_middle_as_far_as_the_picture_goes() -> None:
    image = FrameImage.from_array(PICTURE)
    assert image.view(SPEC, (60, 40, 64, 44)).bounds == (46, 26, 78, 58)
    assert image.view(SPEC, (0, 0, 4, 4)).bounds == (0, 0, 32, 32)
    assert image.view(SPEC, (126, 94, 128, 96)).bounds == (96, 64, 128, 96)


def test_the_whole_picture_is_seen_as_without_tiles() -> None:
    image = FrameImage.from_array(PICTURE)
    np.testing.assert_array_equal(image.view(SPEC).pixels, image.view(ViewSpec(128, 96)).pixels)


def test_a_picture_smaller_than_a_tile_is_filled_up_with_grey() -> None:
    view = FrameImage.from_array(PICTURE).view(ViewSpec(64, 64, tile=160), (0, 0, 10, 10))
    assert view.pixels.shape == (160, 160, 3)
    np.testing.assert_array_equal(view.pixels[:96, :128], PICTURE)
    assert (view.pixels[96:] == LETTERBOX_GREY).all()
    assert (view.pixels[:, 128:] == LETTERBOX_GREY).all()


def test_blue_first_where_the_model_wants_it_so() -> None:
    view = FrameImage.from_array(PICTURE).view(ViewSpec(128, 96, colour="bgr", tile=32), (0, 0, 32, 32))
    np.testing.assert_array_equal(view.pixels, PICTURE[:32, :32, ::-1])


def test_a_camera_s_own_format_is_cut_first_and_converted_then() -> None:
    frame = VideoFrame.from_ndarray(PICTURE, format="rgb24").reformat(format="yuv420p")
    view = FrameImage(frame).view(SPEC, (32, 32, 64, 64))
    whole = FrameImage(frame).rgb()
    assert np.abs(view.pixels.astype(int) - whole[32:64, 32:64]).mean() < 8  # chroma at the edge of a cut differs


def test_it_outlives_its_picture() -> None:
    image = FrameImage.from_array(PICTURE)
    view = image.view(SPEC, (0, 0, 32, 32))
    image.release()
    np.testing.assert_array_equal(view.pixels, PICTURE[:32, :32])
    assert not view.pixels.flags.writeable


class TestBeside:
    def test_the_part_is_red_and_its_reference_is_the_rest(self) -> None:
        picture = beside(PICTURE[..., 0], PICTURE[..., 1])
        np.testing.assert_array_equal(picture[..., 0], PICTURE[..., 0])
        np.testing.assert_array_equal(picture[..., 1], picture[..., 2])

    def test_from_files(self, tmp_path: object) -> None:
        from pathlib import Path

        import cv2

        folder = Path(str(tmp_path))
        cv2.imwrite(str(folder / "part.png"), PICTURE[..., 0])
        cv2.imwrite(str(folder / "clean.png"), PICTURE[..., 1])
        cv2.imwrite(str(folder / "small.png"), PICTURE[:50, :50, 1])
        frame = read_beside(folder / "part.png", folder / "clean.png")
        np.testing.assert_array_equal(frame.to_ndarray(), beside(PICTURE[..., 0], PICTURE[..., 1]))
        with pytest.raises(BadPicture, match=r"its reference small.png differ in size: 128×96 and 50×50"):
            read_beside(folder / "part.png", folder / "small.png")
        with pytest.raises(BadPicture, match=r"its reference gone.png cannot be read"):
            read_beside(folder / "part.png", folder / "gone.png")
