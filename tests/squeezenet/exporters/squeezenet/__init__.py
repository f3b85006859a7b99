"""A family added from outside: SqueezeNet, as torchvision has it."""
