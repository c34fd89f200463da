"""Run networks whose weights are mostly zero on a CPU, skipping the zeros: numpy and one C file, no torch."""
