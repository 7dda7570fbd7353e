"""What lives on the screen, and what does a click compute? Traits are the state."""
