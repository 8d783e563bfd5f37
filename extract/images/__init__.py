"""Images: where they come from, which are left out, and their decoded pixels."""
