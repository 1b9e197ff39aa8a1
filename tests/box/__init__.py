"""The parts of the boxes that tests.boxes makes: disk, cables, machine, engine, fake GPUs."""
