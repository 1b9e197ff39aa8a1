"""What an image needs of a node's GPUs, what a node has, and whether the two fit: values, the standard library alone."""
