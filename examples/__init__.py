"""The examples. They ship in the wheel, as `secure_memory.examples`, because `secmem demo` runs them."""
