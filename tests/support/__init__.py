"""What several tests need: networks, oracles, bundles, ways to break them."""
