"""Stages that judge pictures: a model's session, its decoder, and the contract of a stage around them."""
