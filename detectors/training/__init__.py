"""Makes models. Needs torch; what comes out of it does not."""
