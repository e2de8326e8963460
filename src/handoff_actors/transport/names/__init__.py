"""Host names in addresses: resolves them, and tries each of the addresses that they stand for."""
