"""Running Blockforger: the stack in AWS, and everything on one machine."""
