"""The target `ssh`, seen from here: a job is sent to a box, followed there, brought back."""
