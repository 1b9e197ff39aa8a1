"""What is known of a site: the target's own section of a person's config, and what `launcher doctor` found there."""

from launcher.profiles.model import Partition, Profile, Warned

__all__ = ["Partition", "Profile", "Warned"]
