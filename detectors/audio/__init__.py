"""What judges sound."""
