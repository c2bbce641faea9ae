"""One file per subcommand, named as it is typed."""
