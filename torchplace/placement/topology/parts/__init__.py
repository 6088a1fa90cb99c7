"""What machines are made of, with bytes/s and latencies: PCIe, NVLink, sockets, networks."""
