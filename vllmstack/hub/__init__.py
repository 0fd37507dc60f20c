"""Models of the hub, in the volume that engines read. It runs in the container of docker/models."""
