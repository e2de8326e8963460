"""State machines of the cluster: its members, the links to them, and transfers between them."""
