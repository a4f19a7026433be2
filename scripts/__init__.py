"""Commands of the contracts' owner, operators and requesters: `ape run <command> --help`."""
