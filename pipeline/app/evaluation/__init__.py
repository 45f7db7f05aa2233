"""From a model or a cascade and a data set to figures, curves and stored scores, and from those to a replay."""
