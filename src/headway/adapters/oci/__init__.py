"""Container images without a container engine: layers, a store of blobs, and registries."""
