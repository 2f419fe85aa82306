"""Latent samplers and laws: what draws latents, how well it did, and which law reaches people left out."""
