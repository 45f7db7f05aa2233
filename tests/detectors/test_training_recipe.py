"""What a recipe refuses, so that no training fails midway."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from detectors.networks.text import TextArchitecture, text_network
from detectors.training.recipe import AnyRecipe, SoundRecipe, TextRecipe


def recipe(**said: Any) -> Any:
    return TypeAdapter(AnyRecipe).validate_python(said)


@pytest.mark.parametrize(("backbone", "multiple"), [("mobilenet", 8), ("resnet", 64)])
def test_text_is_read_in_lengths_that_the_network_divides(backbone: Any, multiple: int) -> None:
    architecture = TextArchitecture(backbone=backbone)
    assert architecture.multiple == multiple
    for length in (multiple, 3 * multiple):
        assert isinstance(recipe(network={"backbone": backbone}, view={"length": length}), TextRecipe)
        assert text_network(architecture)(torch.full((2, length), 97)).shape == (2, 2)
    for length in (multiple + 4, 2 * multiple - 1):
        with pytest.raises(ValidationError, match=f"no multiple of {multiple}"):
            recipe(network={"backbone": backbone}, view={"length": length})


def test_networks_of_sound_hear_what_they_were_made_for() -> None:
    network = {"classes": 3}
    assert isinstance(recipe(network=network, view={"rate": 8000, "samples": 8192}), SoundRecipe)
    for view in ({"rate": 16_000, "samples": 8192}, {"rate": 8000, "samples": 8000}):
        with pytest.raises(ValidationError, match="hear 8192 samples, 8000 a second"):
            recipe(network=network, view=view)
