"""Labelled pictures: what models are trained, measured and certified on. Reading them needs no torch."""
