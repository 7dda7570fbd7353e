"""What lives on the screen: traits are its state."""
