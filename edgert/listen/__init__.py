"""`edgert listen`: what a broker carries from the nodes, for a person to watch."""
