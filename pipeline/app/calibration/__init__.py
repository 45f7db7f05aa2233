"""From pictures or a film to units, from what was measured to a certificate, and all of it in plain words."""
