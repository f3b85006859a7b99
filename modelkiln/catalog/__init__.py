"""What can be built, and how it is named: models, contracts, formats, targets."""
