"""The host side on a box that is reached by SSH: it outlives the connection, waits for GPUs, runs a job to its end."""
