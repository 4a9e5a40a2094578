"""The command line's commands by what they are about; `cli` puts them together."""
