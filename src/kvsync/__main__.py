"""`python -m kvsync`: the same as the `kvsync` command, for where scripts are not on the path."""

from kvsync.cli.main import main

if __name__ == "__main__":
    main()
