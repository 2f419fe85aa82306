"""The Riemannian geometry of a latent space: the metric of the posteriors, its centroids, and curves in it."""
