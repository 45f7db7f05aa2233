"""The one preprocessing: what a view shows, and the way back to source pixels."""

from __future__ import annotations

import pickle
import subprocess

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.errors import FrameGone, InputError
from pipeline.core.payloads import FrameImage, ViewSpec
from pipeline.core.records import Array

BIKES = "tests/data/bikes.mp4"


def decoded(n: int = 3) -> list[av.VideoFrame]:
    with av.open(BIKES) as container:
        return [frame for frame, _ in zip(container.decode(video=0), range(n), strict=False)]


def with_square(width: int, height: int, x: int, y: int, size: int) -> Array:
    picture = np.zeros((height, width, 3), np.uint8)
    picture[y : y + size, x : x + size] = 255
    return picture


@settings(deadline=None)
@given(
    size=st.tuples(st.integers(64, 400), st.integers(64, 400)),
    at=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    fit=st.sampled_from(["stretch", "letterbox"]),
    crop=st.sampled_from([1.0, 224 / 256]),
)
def test_what_is_found_in_a_view_is_found_in_the_source(size, at, fit, crop) -> None:
    width, height = size
    side = 24
    x = round((width - side) * at[0])
    y = round((height - side) * at[1])
    spec = ViewSpec(224, 224, fit=fit, crop=crop if fit == "stretch" else 1.0)
    view = FrameImage.from_array(with_square(width, height, x, y, side)).view(spec)
    assert view.pixels.shape == (224, 224, 3)
    assert not view.pixels.flags.writeable
    bright = view.pixels[..., 0] > 180
    if not bright.any():
        assert spec.crop < 1, "only a central crop may leave the square out"
        return
    rows, columns = np.nonzero(bright)
    box = np.array([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]], np.float32)
    x1, y1, x2, y2 = view.to_source(box)[0]
    blur_x, blur_y = 2 * view.step_x + 2, 2 * view.step_y + 2
    assert x1 >= x - blur_x
    assert y1 >= y - blur_y
    assert x2 <= x + side + blur_x
    assert y2 <= y + side + blur_y
    if spec.crop == 1:
        assert abs(x1 - x) <= blur_x
        assert abs(y2 - y - side) <= blur_y


def test_a_region_shows_the_same_pixels_as_the_whole_picture() -> None:
    image = FrameImage(decoded(1)[0])
    whole = image.rgb()
    region = (101.0, 51.0, 301.5, 201.2)
    view = image.view(ViewSpec(202, 152), region)
    assert view.bounds == (100, 50, 302, 202)
    apart = np.abs(view.pixels.astype(int) - whole[50:202, 100:302])
    assert apart.mean() < 1.5
    assert view.to_source(np.array([[0, 0, 202, 152]]))[0].tolist() == [100, 50, 302, 202]


@pytest.mark.parametrize("region", [(-50, -50, 10, 10), (630, 260, 900, 900), (5, 5, 5, 5), (639.9, 271.9, 640, 272)])
def test_a_region_at_or_over_the_edge_is_clipped(region) -> None:
    image = FrameImage(decoded(1)[0])
    view = image.view(ViewSpec(32, 32), region)
    x1, y1, x2, y2 = view.bounds
    assert 0 <= x1 < x2 <= image.width
    assert 0 <= y1 < y2 <= image.height


def test_luma_is_a_sample_of_the_plane_and_the_fingerprint_sees_every_pixel() -> None:
    frame = decoded(1)[0]
    image = FrameImage(frame)
    plane = frame.to_ndarray(format="gray8")
    luma = image.luma()
    assert luma.shape == (34, 80)
    planes = np.frombuffer(frame.planes[0], np.uint8).reshape(-1, frame.planes[0].line_size)
    assert np.array_equal(luma, planes[:272:8, :640:8])
    assert plane.shape == (272, 640)
    one = np.full((64, 64, 3), 90, np.uint8)
    other = one.copy()
    other[3, 3] = 91  # between the samples
    a, b = FrameImage.from_array(one), FrameImage.from_array(other)
    assert np.array_equal(a.luma(), b.luma())
    assert a.fingerprint() != b.fingerprint()
    assert a.fingerprint() == FrameImage.from_array(one).fingerprint()


@pytest.mark.parametrize(
    "pixel_format", ["yuv420p", "yuvj420p", "yuv422p", "nv12", "rgb24", "bgr24", "gray", "yuv420p10le", "yuyv422"]
)
def test_every_pixel_format_a_camera_may_send_looks_the_same(pixel_format) -> None:
    original = decoded(1)[0]
    reference = FrameImage(original)
    other = FrameImage(original.reformat(format=pixel_format))
    spec = ViewSpec(96, 64)
    a, b = reference.view(spec).pixels.astype(int), other.view(spec).pixels.astype(int)
    if pixel_format == "gray":
        a = a.mean(axis=2, keepdims=True)
    assert np.abs(a - b).mean() < 6
    assert other.luma().shape == reference.luma().shape
    assert np.abs(other.luma().astype(int) - reference.luma()).mean() < 12
    assert other.view(spec, (40, 40, 140, 120)).pixels.shape == (64, 96, 3)


def test_bgr_is_rgb_the_other_way_round() -> None:
    image = FrameImage(decoded(1)[0])
    rgb = image.view(ViewSpec(64, 48)).pixels
    bgr = image.view(ViewSpec(64, 48, colour="bgr")).pixels
    # swscale's two paths round differently by a level or two
    assert np.abs(rgb.astype(int) - bgr[..., ::-1]).max() <= 3


def test_rgb_for_people_is_no_wider_than_asked() -> None:
    image = FrameImage(decoded(1)[0])
    assert image.rgb().shape == (272, 640, 3)
    assert image.rgb(max_width=320).shape == (136, 320, 3)
    assert image.rgb(max_width=4000).shape == (272, 640, 3)


def test_a_released_picture_says_so() -> None:
    image = FrameImage(decoded(1)[0])
    image.release()
    image.release()
    with pytest.raises(FrameGone):
        image.view(ViewSpec(8, 8))
    with pytest.raises(TypeError, match="does not cross processes"):
        pickle.dumps(image)


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_camera_held_sideways_is_shown_upright(tmp_path, degrees) -> None:
    """As FFmpeg itself turns it: in views, regions, luma and pictures for people."""
    turned, upright = tmp_path / "turned.mp4", tmp_path / "upright.png"
    ffmpeg = ["ffmpeg", "-v", "error", "-i"]
    rotate = ["-t", "0.2", "-c", "copy", "-metadata:s:v", f"rotate={degrees}"]
    subprocess.run([*ffmpeg, BIKES, *rotate, str(turned)], check=True)
    subprocess.run([*ffmpeg, str(turned), "-frames:v", "1", str(upright)], check=True)
    with av.open(str(turned)) as container, av.open(str(upright)) as png:
        image = FrameImage(next(container.decode(video=0)))
        truth = next(png.decode(video=0)).to_ndarray(format="rgb24").astype(int)
    height, width = truth.shape[:2]
    assert (image.width, image.height) == (width, height)
    assert np.abs(image.rgb() - truth).mean() < 1
    assert np.abs(image.view(ViewSpec(width, height)).pixels - truth).mean() < 1
    part = image.view(ViewSpec(100, 120), (20, 40, 120, 160))
    assert np.abs(part.pixels - truth[40:160, 20:120]).mean() < 1
    assert part.to_source(np.array([[0, 0, 100, 120]]))[0].tolist() == [20, 40, 120, 160]
    grey = truth.mean(axis=2)[::8, ::8]
    assert np.corrcoef(image.luma().ravel(), grey[: image.luma().shape[0], : image.luma().shape[1]].ravel())[0, 1] > 0.9


def test_a_picture_of_one_pixel_has_views_and_regions() -> None:
    image = FrameImage.from_array(np.full((1, 1, 3), 200, np.uint8))
    assert image.view(ViewSpec(8, 8), (0, 0, 1, 1)).pixels.shape == (8, 8, 3)
    assert image.luma().shape == (1, 1)


def test_a_crop_of_a_letterboxed_picture_is_refused() -> None:
    with pytest.raises(InputError, match="fit: stretch"):
        ViewSpec(8, 8, fit="letterbox", crop=0.9)
