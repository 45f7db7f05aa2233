"""What judges text."""
