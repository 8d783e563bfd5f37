"""Networks in, batches of rows out. The only part of dissectdb that imports torch; it imports nothing of ours."""
