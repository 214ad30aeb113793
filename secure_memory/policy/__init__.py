"""What a store is told to do: redaction, retention, access and audit, declared in one YAML file."""
