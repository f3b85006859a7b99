"""A family added from outside: patches and torchvision's perceptrons."""
