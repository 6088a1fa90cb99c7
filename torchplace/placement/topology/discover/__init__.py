"""From what a machine tells of itself to a topology: NVML, a saved `nvidia-smi topo -m`, torch's accelerators."""
