"""What is measured. Each case runs in a peer's own process and knows no peer by name."""
