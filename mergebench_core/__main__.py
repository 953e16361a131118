"""`python -m mergebench_core` is the command line."""

from mergebench_core.cli.main import main

if __name__ == "__main__":
    main()
