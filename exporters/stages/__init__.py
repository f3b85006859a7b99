"""The stages, a module each, named like the stage; a family adds its part."""
