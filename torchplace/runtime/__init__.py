"""Runtime wing: runs a program on real devices and records what happened."""
