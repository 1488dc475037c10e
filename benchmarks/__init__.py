"""The instrument: figures of Blockforger beside those of what a user would pick instead, in one run."""
