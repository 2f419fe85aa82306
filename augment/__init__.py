"""The method: one autoencoder per class, the Riemannian metric of its posteriors, and samples drawn on that manifold."""
