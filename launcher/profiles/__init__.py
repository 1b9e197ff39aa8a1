"""What is known of a site: the target's own section of a person's config, and what `launcher doctor` found there."""

from launcher.profiles.files import load, load_found, names, remove, save, save_found
from launcher.profiles.model import Kind, Partition, Profile, Qos, Warned

__all__ = [
    "Kind",
    "Partition",
    "Profile",
    "Qos",
    "Warned",
    "load",
    "load_found",
    "names",
    "remove",
    "save",
    "save_found",
]
