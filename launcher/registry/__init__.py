"""Images in registries: their names, the logins for them, and blobs both ways (OCI Distribution Specification 1.1)."""
