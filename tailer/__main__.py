"""``python -m tailer``: the command `oss-tail`, where the scripts of the package are not on the path."""

from tailer.cli.tail import main

if __name__ == "__main__":
    main()
