"""Slurm: batch scripts and submissions, what the scheduler says of them, and their repair."""
