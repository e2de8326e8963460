"""An app's side of the actors."""
