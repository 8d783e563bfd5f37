"""Do labels describe what their neurons do? Measures against a truth that played no part in the labels."""
