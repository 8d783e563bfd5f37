"""The probed network and CLIP: loaded, checked and run."""
