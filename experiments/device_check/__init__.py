"""Whether an accelerator does what it is for: device tests, speed of training, results equal to the CPU's."""
