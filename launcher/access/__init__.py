"""How this machine reaches a store: its settings, profiles and credentials, found where their owners keep them."""
