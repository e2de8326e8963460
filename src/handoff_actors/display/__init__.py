"""How an app's user sees its runs: progress, and what functions print."""
