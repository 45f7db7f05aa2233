"""Thresher's house: the vocabulary (`core`), what moves windows (`engine`), what a person touches (`app`)."""
