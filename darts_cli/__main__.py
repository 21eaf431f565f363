from darts_cli.cli import main

main()
