"""What a training script may import, if it likes: checkpoints written whole, metrics, seeds."""
