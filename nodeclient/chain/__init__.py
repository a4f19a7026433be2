"""The Ethereum adapter: typed views, ordered events, transactions sent at most once."""
