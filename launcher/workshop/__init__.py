"""What has to be executed once to become an artifact: wheels from source, and images from a Containerfile."""
