"""The host side of a task on a node: brings what a container needs, runs it, passes signals on, requeues."""
