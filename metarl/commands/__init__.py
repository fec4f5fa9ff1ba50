"""The subcommands of `metarl`, one module each with a `main(argv) -> exit code`."""
