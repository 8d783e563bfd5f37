"""One pass over the images, written into the warehouse block by block."""
