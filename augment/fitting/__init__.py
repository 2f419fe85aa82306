"""From the images of one class to a fitted model on disk."""
