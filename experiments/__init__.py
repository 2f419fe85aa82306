"""Studies built on the other three folders; nothing imports them but the command line, lazily."""
