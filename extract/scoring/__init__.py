"""Scores between neurons and concepts, their null distributions and labels. Takes arrays, returns arrays."""
