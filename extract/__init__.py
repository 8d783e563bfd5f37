"""Networks in, batches of rows out. The only part of dissectdb that imports torch; it imports nothing of ours."""

import os

# Threads that wait sleep: spinning ones take the cores from decoding, from the writer and from whatever else runs.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # read when torch is loaded
