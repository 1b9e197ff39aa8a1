"""What an image needs of GPUs, what a node has, and whether the two fit: values, and the standard library alone."""
