"""Images in registries: their names, the logins for them, and blobs in both directions (OCI Distribution Specification 1.1)."""
