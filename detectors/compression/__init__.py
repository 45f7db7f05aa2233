"""Models made smaller and faster, and the proof that they still say the same."""
