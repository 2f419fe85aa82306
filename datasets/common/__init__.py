"""What is basic to every folder: errors, files, manifests, text that may be a stranger's, seeds, and where to compute."""
