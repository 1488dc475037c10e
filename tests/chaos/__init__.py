"""The promises under fault: the real processes, killed at random, before an AWS that misbehaves. See README.md."""
