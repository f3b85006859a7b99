"""What comes over the network: checkpoints, and answers of registries."""
