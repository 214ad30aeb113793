"""The command `secmem`: noun, verb, singular. Installed as `secure_memory.cli`.

    main.py      the command itself: what there is, and how it ends
    options.py   what every command can be told: store, key, anchor, who asks, JSON
    failure.py   errors as a person and as a program read them, and exit codes
    output.py    tables and JSON; nothing stored reaches a terminal unescaped
    times.py     times as people write them and as we print them

and one file a command or command group. Each command is one call of the `SecureStore` method of its name. It uses the
package's public names only, and no command but `demo` imports `agents`, which costs seconds.
"""
