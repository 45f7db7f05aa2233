"""What judges, on the decode side, whether a window is worth a stage's time."""
