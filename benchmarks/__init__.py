"""Speed and memory beside plain networks: one module an operation, PyTorch's defaults, as the formulas are written."""
