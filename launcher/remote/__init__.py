"""Ways to a machine that is not this one: one small interface, and who speaks it."""
