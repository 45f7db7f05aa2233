"""What judges without a model, on the decode side and on luma alone: whether a frame is worth a model's time."""
