"""What happens to whole sessions, people, tenants and stores. `SecureStore` takes its methods from the facets here:

    governing           the policy: put in force, asked; explaining: what it does with one conversation
    holding             legal holds
    cleansing           redaction of what is stored already; scanning: counting it
    subject_export      everything kept about a person; records: who looked at it
    reserve             room for what has to work on a full disk

and in the packages: transfer, purge, erasure, rotation, backup.
"""
