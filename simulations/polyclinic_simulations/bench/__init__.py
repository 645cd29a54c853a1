"""The benchmark behind `make bench`: time and memory of training, as ratios in one run."""
