"""Package indexes and mirrors: which ones this machine is configured for, and how to ask them for a file."""
