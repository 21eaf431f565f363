"""The yardstick: what everybody writes from the paper. It shares no code with darts_cli but the genotypes."""
